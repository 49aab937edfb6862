// Keys of a page: a key clicks the link, button or summary that declares it with `data-key`. Whoever speaks to the
// browser, or hits keys by chance, turns them off for all pages of this browser.
const typing = "input:not([type=checkbox]), select, textarea, [contenteditable]";
const choice = document.querySelector("#keys-on");
let isOn = true;

function kept(state) {
  try {
    if (state) localStorage.setItem("keys", state);
    return localStorage.getItem("keys");
  } catch { // the browser keeps nothing: the choice holds on this page
    return state;
  }
}

if (choice) {
  isOn = kept() !== "off";
  choice.checked = isOn;
  choice.parentElement.hidden = false;
  choice.addEventListener("change", () => {
    isOn = choice.checked;
    kept(isOn ? "on" : "off");
  });
}

document.addEventListener("keydown", (event) => {
  if (!isOn || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (event.target instanceof Element && event.target.closest(typing)) return;
  const wanted = [...document.querySelectorAll("[data-key]")].find((each) => each.dataset.key === event.key);
  if (!wanted) return;
  event.preventDefault();
  if (wanted.matches("input, select, textarea")) {
    wanted.focus();
    return;
  }
  wanted.click();
  if (wanted.matches("summary") && wanted.parentElement.open) {
    (wanted.parentElement.querySelector("select, input:not([type=hidden]), textarea") ?? wanted).focus();
  }
});
