// Draws sectors, lines, ignored areas and masks over a picture, by mouse, touch and keyboard. Without it the page's
// form changes the same file as a text. Coordinates are in 0..1 of the picture, four digits.

const STEP = 1 / 200;
const LEAST = { sector: 3, mask: 3, line: 2, ignored: 2 };
const MOST = { sector: 100, mask: 100, line: 2, ignored: 2 };
const RADIUS = matchMedia("(pointer: coarse)").matches ? 16 : 7; // pixels
const WORDS = { sector: "Sector", mask: "Mask", line: "Line", ignored: "Ignored area" };
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const svg = byId("shapes");
const list = byId("list");
const form = byId("draw");
const before = JSON.parse(byId("drawing").dataset.shapes);
let shapes = [
  ...before.sectors.map((each) => ({ kind: "sector", name: each.name, points: each.corners })),
  ...before.lines.map((each) => ({ kind: "line", name: each.name, points: [each.a, each.b], directions: each.directions })),
  ...before.ignored.map((each) => ({ kind: "ignored", name: each.name, points: [each.box.slice(0, 2), each.box.slice(2)] })),
];
shapes.forEach((shape) => { shape.was = key(shape); shape.knownAs = shape.name; });
const known = shapes.map(({ kind, name }) => ({ kind, name }));
let chosen = -1;
let drag = null;
const undone = [];

function key(shape) {
  return JSON.stringify([shape.points, shape.directions || null]);
}

function remember() {
  undone.push(JSON.stringify({ shapes, chosen }));
  if (undone.length > 200) undone.shift();
}

function undo() {
  const last = undone.pop();
  if (!last) return say("Nothing to undo.");
  ({ shapes, chosen } = JSON.parse(last));
  changed();
  say("Undone.");
}

function say(words) {
  byId("said").textContent = words;
}

const rounded = (value) => Math.round(Math.min(1, Math.max(0, value)) * 10000) / 10000;

function place(event) {
  const box = svg.getBoundingClientRect();
  return [rounded((event.clientX - box.left) / box.width), rounded((event.clientY - box.top) / box.height)];
}

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  parent.append(made);
  return made;
}

// The shapes that the form sends: those that are new, changed or gone, as the server reads them.
function drawn() {
  const sent = { sectors: {}, lines: {}, ignored: {}, renamed: {} };
  const groups = { sector: "sectors", line: "lines", ignored: "ignored" };
  for (const { kind, name } of known) {
    if (!shapes.some((shape) => shape.kind === kind && shape.knownAs === name)) sent[groups[kind]][name] = null;
  }
  for (const { kind, name, knownAs } of shapes) {
    if (kind === "sector" && knownAs && knownAs !== name) sent.renamed[knownAs] = name;
  }
  for (const shape of shapes) {
    if (shape.kind === "mask" || shape.points.length < LEAST[shape.kind] || shape.was === key(shape)) continue;
    const [a, b] = shape.points;
    if (shape.kind === "sector") sent.sectors[shape.name] = shape.points;
    else if (shape.kind === "line") sent.lines[shape.name] = { a, b, directions: shape.directions };
    else sent.ignored[shape.name] = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  }
  return sent;
}

function changed() {
  const sent = drawn();
  const isSame = Object.values(sent).every((group) => Object.keys(group).length === 0);
  byId("shapes-json").value = isSame ? "" : JSON.stringify(sent);
  draw();
  showList();
  showMasks();
  form.dispatchEvent(new Event("drawn"));
}

// Of a line, the way directions[0] leads to the left of whoever looks from a to b, as the picture shows it.
function ways(shape) {
  const box = svg.getBoundingClientRect();
  const [[ax, ay], [bx, by]] = shape.points.map(([x, y]) => [x * box.width, y * box.height]);
  const length = Math.hypot(bx - ax, by - ay) || 1;
  const across = [(by - ay) / length, -(bx - ax) / length];
  const middle = [(ax + bx) / 2, (ay + by) / 2];
  return [1, -1].map((sign) => {
    const at = (far, along = 0) => [
      (middle[0] + sign * across[0] * far + ((bx - ax) / length) * along) / box.width,
      (middle[1] + sign * across[1] * far + ((by - ay) / length) * along) / box.height,
    ];
    return { tip: at(26), wings: [at(18, 6), at(18, -6)], from: at(4), label: at(44) };
  });
}

const units = (point) => point.map((each) => each * 1000).join(" ");

function draw() {
  const box = svg.getBoundingClientRect();
  if (!box.width || !box.height) return; // the picture is still to come; its size draws again
  const focused = document.activeElement;
  const at = focused && focused.dataset ? focused.dataset.corner : null;
  svg.replaceChildren();
  byId("labels").replaceChildren();
  shapes.forEach((shape, index) => drawShape(shape, index));
  if (at) svg.querySelector(`[data-corner="${at}"]`)?.focus();
  showFaults();
}

function drawShape(shape, index) {
  const { kind, points } = shape;
  const look = `sector ${kind}${index === chosen ? " chosen" : ""}`;
  const path = kind === "ignored" && points.length === 2
    ? `M${units(points[0])}H${points[1][0] * 1000}V${points[1][1] * 1000}H${points[0][0] * 1000}Z`
    : points.map((point, number) => `${number ? "L" : "M"}${units(point)}`).join("") + (kind === "line" || points.length < 3 ? "" : "Z");
  if (points.length) element("path", { class: look, d: path, "data-shape": `${kind === "line" ? "lines" : kind === "ignored" ? "suppress" : "sectors"}.${shape.name}` }, svg);
  const box = svg.getBoundingClientRect(); // without height until the picture is there
  if (kind === "line" && points.length === 2 && box.height) {
    ways(shape).forEach((way, side) => {
      element("path", { class: "way", d: `M${units(way.from)}L${units(way.tip)}M${units(way.wings[0])}L${units(way.tip)}L${units(way.wings[1])}` }, svg);
      label(shape.directions[side], way.label);
    });
    label(shape.name, points[0]);
  } else if (points.length) {
    label(shape.name, [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length));
  }
  if (index === chosen) points.forEach((point, corner) => drawCorner(shape, index, point, corner));
}

function label(words, [x, y]) {
  const made = document.createElement("span");
  made.textContent = words;
  made.style.left = `${x * 100}%`;
  made.style.top = `${y * 100}%`;
  byId("labels").append(made);
}

function drawCorner(shape, index, [x, y], corner) {
  const box = svg.getBoundingClientRect();
  const made = element("ellipse", {
    class: "corner", cx: x * 1000, cy: y * 1000, rx: (RADIUS * 1000) / (box.width || 1), ry: (RADIUS * 1000) / (box.height || 1), tabindex: 0, role: "button", "data-corner": `${index}.${corner}`,
    "aria-label": `Corner ${corner + 1} of ${shape.name}, ${Math.round(x * 100)} % across, ${Math.round(y * 100)} % down`,
  }, svg);
  made.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    event.stopPropagation();
    remember();
    drag = { index, corner, id: event.pointerId, from: [event.clientX, event.clientY], hasMoved: false };
    made.focus();
  });
  made.addEventListener("keydown", (event) => pressed(event, index, corner));
}

function focusCorner(index, corner) {
  svg.querySelector(`[data-corner="${index}.${corner}"]`)?.focus();
}

function pressed(event, index, corner) {
  const { points, kind, name } = shapes[index];
  const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
  if (moves[event.key]) {
    remember();
    points[corner] = points[corner].map((each, axis) => rounded(each + moves[event.key][axis] * (event.shiftKey ? 10 : 1)));
    changed();
  } else if (event.key === "Enter") {
    if (points.length >= MOST[kind]) return;
    remember();
    const next = points[(corner + 1) % points.length];
    const far = points.length === 1 ? [0.1, 0] : [0, 0];
    points.splice(corner + 1, 0, points[corner].map((each, axis) => rounded((each + next[axis]) / 2 + far[axis])));
    changed();
    focusCorner(index, corner + 1);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    remember();
    points.splice(corner, 1);
    changed();
    focusCorner(index, Math.min(corner, points.length - 1));
    say(points.length < LEAST[kind] ? `${name} needs ${LEAST[kind]} corners; it has ${points.length}.` : "");
  } else return;
  event.preventDefault();
}

// Where a new corner belongs: at the end while the shape is being drawn, else in the edge that is nearest.
function nearestEdge({ points, isOpen }, [x, y]) {
  if (isOpen || points.length < 3) return points.length;
  const far = points.map(([ax, ay], number) => {
    const [bx, by] = points[(number + 1) % points.length];
    const length = (bx - ax) ** 2 + (by - ay) ** 2 || 1;
    const along = Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length));
    return Math.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay));
  });
  return far.indexOf(Math.min(...far)) + 1;
}

svg.addEventListener("click", (event) => {
  if (drag || event.target.classList.contains("corner")) return;
  const shape = shapes[chosen];
  if (!shape) return say("Choose a shape in the list below, or make a new one.");
  if (shape.points.length >= MOST[shape.kind]) return say(`${shape.name} has both its ends; drag them.`);
  remember();
  const corner = nearestEdge(shape, place(event));
  shape.points.splice(corner, 0, place(event));
  changed();
  focusCorner(chosen, corner);
});

window.addEventListener("pointermove", (event) => {
  if (!drag || event.pointerId !== drag.id) return;
  const [x, y] = drag.from;
  drag.hasMoved = drag.hasMoved || Math.hypot(event.clientX - x, event.clientY - y) > 3;
  if (!drag.hasMoved) return;
  shapes[drag.index].points[drag.corner] = place(event);
  draw();
});

for (const end of ["pointerup", "pointercancel"]) {
  window.addEventListener(end, (event) => {
    if (!drag || event.pointerId !== drag.id) return;
    const { hasMoved } = drag;
    setTimeout(() => { drag = null; });
    if (hasMoved) changed();
    else undone.pop();
  });
}

window.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "Escape" && !isTyping) undo();
});

function choose(index) {
  if (shapes[chosen]) shapes[chosen].isOpen = false;
  chosen = index;
  draw();
  showList();
}

function begin(kind, isByKey) {
  remember();
  const taken = shapes.filter((shape) => shape.kind === kind).map((shape) => shape.name);
  let number = 1;
  while (taken.includes(`${kind}-${number}`)) number += 1;
  const middle = kind === "line" ? [[0.5, 0.35], [0.5, 0.65]]
    : kind === "ignored" ? [[0.4, 0.4], [0.6, 0.6]] : [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]];
  const shape = { kind, name: `${kind}-${number}`, points: isByKey ? middle : [], isNew: true, isOpen: !isByKey };
  if (kind === "line") shape.directions = ["in", "out"];
  shapes.push(shape);
  chosen = shapes.length - 1;
  changed();
  if (isByKey) focusCorner(chosen, 0);
  else say(`Click ${LEAST[kind] === 2 ? "its two ends" : "its corners in order"} in the picture.`);
}

// A button pressed by a key has no click count: it gets a shape in the middle, whose corners the keys then move.
document.querySelectorAll("[data-new]").forEach((button) => {
  button.addEventListener("click", (event) => begin(button.dataset.new, event.detail === 0));
});
byId("undo").addEventListener("click", undo);

function field(words, value, store, parent, spoken = words) {
  const made = document.createElement("label");
  made.textContent = `${words} `;
  const input = document.createElement("input");
  input.value = value;
  input.size = 14;
  input.maxLength = 60;
  input.autocomplete = "off";
  input.setAttribute("aria-label", spoken);
  input.addEventListener("change", () => { remember(); store(input.value.trim()); changed(); });
  made.append(input);
  parent.append(made);
}

function showList() {
  const focused = document.activeElement && list.contains(document.activeElement)
    ? [...list.querySelectorAll("button, input")].indexOf(document.activeElement) : -1;
  list.replaceChildren(...shapes.map((shape, index) => {
    const row = document.createElement("li");
    const choice = document.createElement("button");
    choice.type = "button";
    choice.textContent = `${WORDS[shape.kind]} ${shape.name}`;
    choice.setAttribute("aria-pressed", String(index === chosen));
    choice.addEventListener("click", () => { choose(index); say(""); });
    row.append(choice);
    if ((shape.isNew && shape.kind !== "mask") || shape.kind === "sector") field("Name", shape.name, (name) => { shape.name = named(shape, name); }, row, `Name of ${shape.name}`);
    if (shape.kind === "line") {
      field("This way", shape.directions[0], (name) => { shape.directions[0] = name; }, row);
      field("Other way", shape.directions[1], (name) => { shape.directions[1] = name; }, row);
    }
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = `Remove ${shape.name}`;
    remove.addEventListener("click", () => { remember(); shapes.splice(index, 1); chosen = -1; changed(); say("Removed. Escape brings it back."); });
    row.append(remove);
    return row;
  }));
  if (focused >= 0) [...list.querySelectorAll("button, input")][focused]?.focus();
}

// A shape never takes the name of another one of its kind.
function named(shape, name) {
  const isTaken = shapes.some((each) => each !== shape && each.kind === shape.kind && each.name === name);
  if (!name || isTaken) say(name ? `There is a ${WORDS[shape.kind].toLowerCase()} ${name} already.` : "It needs a name.");
  return name && !isTaken ? name : shape.name;
}

function showMasks() {
  const masks = shapes.filter((shape) => shape.kind === "mask" && shape.points.length > 2).map((shape) => shape.points);
  byId("masks").hidden = !masks.length;
  byId("masks-text").value = `masks = ${JSON.stringify(masks)}`;
}

function showFaults() {
  const at = [...document.querySelectorAll("#preview [data-at]")].map((each) => each.dataset.at);
  svg.querySelectorAll("[data-shape]").forEach((each) => each.classList.toggle("faulty", at.includes(each.dataset.shape)));
}

document.body.addEventListener("htmx:afterSettle", showFaults);
new ResizeObserver(draw).observe(svg);
byId("tools").hidden = false;
showList();
draw();
