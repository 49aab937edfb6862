// Keys of a page: a key clicks the link, button or summary that declares it with `data-key`.
const typing = "input, select, textarea, [contenteditable]";

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
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
