// The cursor of a day: arrow keys move it by a quarter hour, with Shift by an hour; Enter shows what came from there on.
// A click on a bar does the same.

const QUARTER = 10; // cells of 90 s
let cell = null;

const bars = () => document.querySelector(".bars");
const cells = () => Number(bars().dataset.cells);

function clock(at) {
  const begins = new Date(bars().dataset.since).getTime();
  const zone = bars().dataset.zone || undefined;
  const form = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  try {
    return new Date(begins + at * 90000).toLocaleTimeString("en-GB", { ...form, timeZone: zone });
  } catch {
    return new Date(begins + at * 90000).toLocaleTimeString("en-GB", form); // the server's zone has no name here
  }
}

function show() {
  for (const mark of bars().querySelectorAll(".cursor")) mark.setAttribute("d", `M${cell} 0v20`);
  bars().querySelector("output").textContent = `${clock(cell)}: Enter shows what came from then on`;
}

function open(camera) {
  const address = new URL(location.href);
  address.searchParams.set("from", clock(cell));
  if (camera) address.searchParams.set("camera", camera);
  address.hash = "visits";
  location.assign(address);
}

document.addEventListener("keydown", (event) => {
  if (event.target !== bars() || event.ctrlKey || event.altKey || event.metaKey) return;
  const step = { ArrowLeft: -QUARTER, ArrowRight: QUARTER }[event.key];
  if (event.key === "Enter" && cell !== null) open();
  if (!step) return;
  event.preventDefault();
  cell = Math.min(cells() - 1, Math.max(0, (cell ?? cells() / 2) + step * (event.shiftKey ? 4 : 1)));
  show();
});

document.addEventListener("click", (event) => {
  const bar = event.target.closest?.("svg.bar");
  if (!bar) return;
  const { left, width } = bar.getBoundingClientRect();
  cell = Math.floor(((event.clientX - left) / width) * cells());
  open(bar.dataset.camera);
});
