// Elements by hand: h("button", {class: "main", onclick}, "Paint").

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  set(element, attributes);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function s(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat());
  return element;
}

export function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key === "hue") element.style.setProperty("--hue", value);
    else if (key === "dataset") Object.assign(element.dataset, value);
    else if (key in element && !key.startsWith("aria")) element[key] = value;
    else element.setAttribute(key, value);
  }
}

const PATHS = {
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3",
  full: "M9.5 2.5h4v4M13.5 2.5l-5 5M6.5 13.5h-4v-4M2.5 13.5l5-5",
  seam: "M8 1.5v2M8 5.5v2M8 9.5v2M8 13v1.5M5.5 5 2.5 8l3 3M10.5 5l3 3-3 3",
  box: "M2.5 4.5h11v8h-11z",
  polygon: "M3 6l5-3.5L13.5 7 11 13.5 4.5 12z",
  brush: "M13.5 2.5C10.5 4 7.5 7 7 9c1 .2 1.7 .9 1.9 1.9 2-.5 4-4.9 4.6-8.4zM7 9c-2-.5-3 1-3.2 2.5-.1.8-.8 1.3-1.3 1.5 1.5.8 5.2.5 5.6-2.1",
  bin: "M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.5 8.5h6l.5-8.5",
  close: "M4 4l8 8M12 4l-8 8",
  down: "M8 2.5v7.5M4.8 7 8 10.2 11.2 7M3 13h10",
  back: "M9.5 3.5 5 8l4.5 4.5",
  larger: "M6 10 13 3M9 3h4v4M7 3H3v10h10V9",
  dice: "M3 3h10v10H3zM6 6h.01M10 10h.01M10 6h.01M6 10h.01",
  again: "M13 5.5A5.5 5.5 0 1 0 13.5 9M13 2.5v3h-3",
};

export function icon(name) {
  return s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
}

// A button of which only the sign is seen; `label` is what is read out, and shown on hovering.
export function iconButton(name, label, onclick, attributes = {}) {
  return h("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...attributes }, icon(name));
}

// A short message that goes away, or stays until it is closed (`bad`).
export function note(text, { bad = false, action = null } = {}) {
  const room = document.getElementById("notes");
  const close = () => element.remove();
  const element = h("div", { class: bad ? "note bad" : "note", role: bad ? "alert" : null }, h("p", {}, text));
  if (action) element.append(h("button", { type: "button", onclick: () => { close(); action.run(); } }, action.label));
  element.append(h("button", { type: "button", "aria-label": "Close this message", onclick: close }, icon("close")));
  room.replaceChildren(element);
  if (!bad) setTimeout(close, 6000);
  return close;
}
