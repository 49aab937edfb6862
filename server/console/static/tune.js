// Sliders beside the numbers of the form. Without this script the numbers alone are there.
function join(root) {
  for (const slider of root.querySelectorAll("input[type=range][data-of]")) {
    if (!slider.hidden) continue;
    const number = document.getElementById(slider.dataset.of);
    slider.hidden = false;
    slider.addEventListener("input", () => { number.value = slider.value; });
    number.addEventListener("input", () => { slider.value = number.value; });
  }
}

// The numbers of the models are drawn anew when the rule changes. What a person enters until they come is kept.
const MODELS = "by-model";
const entered = new Map();

function enterAgain() {
  const again = [...entered];
  entered.clear();
  for (const [id, value] of again) {
    const number = document.getElementById(id);
    if (number === null || number.value === value) continue;
    number.value = value;
    number.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

join(document);
document.body.addEventListener("input", (event) => {
  if (event.target.closest(`#${MODELS}`) === null) return;
  entered.set(event.target.dataset.of ?? event.target.id, event.target.value);
});
document.body.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.id === MODELS) entered.clear(); // it carries them
});
document.body.addEventListener("htmx:load", (event) => {
  join(event.detail.elt);
  if (event.detail.elt.id === MODELS) enterAgain();
});
