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

join(document);
document.body.addEventListener("htmx:load", (event) => join(event.detail.elt));
