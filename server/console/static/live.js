// Keeps the part of a page with `data-live` new, and says so where it cannot.
// News from the server, and each `data-every` seconds, send a `changed` event to the body: htmx then loads the part again.
// The part names the news that concern it: those after data-after, of data-site, data-camera and data-day.

const QUIET_MS = 2000;
const AGAIN_MS = 5000; // an EventSource that got no stream is closed for good: after so long there is a new one
const SILENT_MS = 15000; // it asks every 3 s
const REACHABLE = "a, summary, [tabindex]";

const failing = new Set(); // "news", "part"
let source = null;
let after = "";
let waiting = 0;
let again = 0;
let heard = Date.now(); // when the feed answered
let updated = Date.now(); // when the part was loaded
let place = null;

const part = () => document.querySelector("[data-live]");

function concerns(news) {
  const { site, camera, day } = part()?.dataset ?? {};
  // The end of a visit from before midnight stands on the page of the day before.
  const before = new Date(Date.parse(news.day) - 86400000).toISOString().slice(0, 10);
  const isOfDay = !day || (before <= day && day <= news.until_day);
  return (!site || site === news.site) && (!camera || camera === news.camera) && isOfDay;
}

function change() {
  clearTimeout(waiting);
  waiting = 0;
  if (!document.hidden) document.body.dispatchEvent(new Event("changed"));
}

function listen() {
  clearTimeout(again);
  if (source || document.hidden || !part()) return;
  const { site } = part().dataset;
  after ||= part().dataset.after;
  source = new EventSource(`/live?${new URLSearchParams({ ...(site && { site }), after })}`);
  heard = Date.now();
  source.addEventListener("open", () => {
    heard = Date.now();
    works("news", true);
  });
  source.addEventListener("event", (message) => {
    after = message.lastEventId;
    if (concerns(JSON.parse(message.data))) waiting ||= setTimeout(change, QUIET_MS);
  });
  source.addEventListener("error", () => {
    if (source?.readyState === EventSource.CLOSED) {
      rest();
      again = setTimeout(listen, AGAIN_MS);
      works("news", false);
    } else if (Date.now() - heard > SILENT_MS) works("news", false);
  });
}

function rest() {
  clearTimeout(again);
  source?.close();
  source = null;
}

function wake() {
  listen();
  change();
}

function works(what, does) {
  if (does) failing.delete(what);
  else failing.add(what);
  const note = document.getElementById("stale");
  part()?.classList.toggle("stale", failing.size > 0);
  if (!failing.size) note?.remove();
  else if (!note && part()) {
    const made = document.createElement("p");
    Object.assign(made, { id: "stale", className: "fault", role: "alert" });
    made.textContent = `Not updated since ${clock(updated)}: the server does not answer as it should. What follows was so then. The page tries again by itself.`;
    part().before(made);
  }
}

function clock(at) {
  const form = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  try {
    return new Date(at).toLocaleTimeString("en-GB", { ...form, timeZone: part().dataset.zone || undefined });
  } catch {
    return new Date(at).toLocaleTimeString("en-GB", form); // the server's zone has no name here
  }
}

const key = (element) => element.id || element.getAttribute("href") || `${element.closest("[id]").id} ${element.localName}`;
const alike = (name) => [...part().querySelectorAll(REACHABLE)].filter((each) => key(each) === name);

// What a person has open, and where the focus is: a part that comes new keeps it.
function noted() {
  const focus = part().contains(document.activeElement) ? document.activeElement : null;
  return {
    opened: [...part().querySelectorAll("details[open]")].map((each) => each.closest("[id]").id),
    scrolled: part().querySelector(".bars")?.scrollLeft ?? 0,
    focus: focus && { name: key(focus), number: alike(key(focus)).indexOf(focus) },
  };
}

function restore({ opened, scrolled, focus }) {
  for (const id of opened) document.getElementById(id)?.querySelector("details")?.setAttribute("open", "");
  if (scrolled) part().querySelector(".bars")?.scrollTo(scrolled, 0);
  if (focus) (alike(focus.name)[focus.number] ?? part()).focus({ preventScroll: true });
}

// The server gives a part that it has just made for others, if it has the news that this page has heard of.
document.body.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.elt.matches("[data-live]") && after) event.detail.headers["Last-Event-ID"] = after;
});

const isOfPart = (event) => event.detail.requestConfig.elt.matches("[data-live]"); // detail.elt is new after a swap

document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (!isOfPart(event)) return;
  if (!event.detail.serverResponse.includes(`id="${part().id}"`)) event.detail.isError = true; // another page
  if (event.detail.isError) event.detail.shouldSwap = false;
  else place = noted();
});
document.body.addEventListener("htmx:afterSwap", () => {
  if (place) restore(place);
  place = null;
});
document.body.addEventListener("htmx:afterRequest", (event) => {
  if (!isOfPart(event)) return;
  if (event.detail.successful) updated = Date.now();
  works("part", event.detail.successful === true);
});

document.addEventListener("visibilitychange", () => (document.hidden ? rest() : wake()));
addEventListener("pagehide", rest);
addEventListener("pageshow", (event) => event.persisted && wake());
if (part()) setInterval(change, 1000 * part().dataset.every);
listen();
