// The cursor of a day: arrow keys move it by a quarter hour, with Shift by an hour; Enter shows what came from there on.
// A click on a bar does the same; one on a hatched stretch says why nobody watched then.

const QUARTER = 10; // cells of 90 s
let cell = null;

const bars = () => document.querySelector(".bars");
const cells = () => Number(bars().dataset.cells);

const instant = (at) => new Date(new Date(bars().dataset.since).getTime() + at * 90000);

function clock(at) {
  const zone = bars().dataset.zone || undefined;
  const form = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  try {
    return instant(at).toLocaleTimeString("en-GB", { ...form, timeZone: zone });
  } catch {
    return instant(at).toLocaleTimeString("en-GB", form); // the server's zone has no name here
  }
}

function show() {
  for (const mark of bars().querySelectorAll(".cursor")) mark.setAttribute("d", `M${cell} 0v20`);
  bars().querySelector("output").textContent = `${clock(cell)}: Enter shows what came from then on`;
}

function open(camera) {
  const address = new URL(location.href);
  address.searchParams.set("from", instant(cell).toISOString()); // an hour may come twice
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
  const { camera } = bar.dataset;
  const { site } = document.getElementById("day").dataset;
  if (!event.target.closest(".unobserved")) open(camera);
  else location.assign(`/why?${new URLSearchParams({ site, camera, at: instant(cell).toISOString() })}`);
});

document.body.addEventListener("htmx:afterSwap", () => cell !== null && bars() && show());
