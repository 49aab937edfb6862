// Tells a page of something new: a `changed` event on the body, which htmx waits for.
// The part of the page with `data-live` says which news concern it: data-site, data-camera, data-day.

const QUIET_MS = 2000;
let source = null;
let after = "";
let waiting = 0;

const part = () => document.querySelector("[data-live]");

function concerns(news) {
  const { site, camera, day } = part()?.dataset ?? {};
  return (!site || site === news.site) && (!camera || camera === news.camera) && (!day || day === news.day);
}

function change() {
  waiting = 0;
  if (part()?.querySelector("details[open]")) later(); // what a person reads stays
  else document.body.dispatchEvent(new Event("changed"));
}

function later() {
  waiting ||= setTimeout(change, QUIET_MS);
}

function listen() {
  if (source || document.hidden || !part()) return;
  const { site } = part().dataset;
  const query = new URLSearchParams({ ...(site && { site }), ...(after && { after }) });
  source = new EventSource(`/live?${query}`);
  source.addEventListener("event", (message) => {
    after = message.lastEventId;
    if (concerns(JSON.parse(message.data))) later();
  });
}

function rest() {
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
addEventListener("pagehide", rest);
addEventListener("pageshow", listen);
listen();
