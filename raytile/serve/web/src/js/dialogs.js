// Small windows: the key, the keyboard, how large, are you sure.

import { h } from "./dom.js";

const CLOSED = new Error("closed");

// Shows `content` until it is answered; resolves to what `answer(value)` was given, null if it was closed.
export function dialog(title, build) {
  return new Promise((done) => {
    let result = null;
    const element = h("dialog", { "aria-labelledby": "dialog-title" });
    const answer = (value) => { result = value; element.close(); };
    element.append(h("div", { class: "stack" }, h("h1", { id: "dialog-title" }, title), build(answer)));
    element.addEventListener("close", () => { element.remove(); done(result); });
    element.addEventListener("click", (event) => { if (event.target === element) element.close(); });
    document.body.append(element);
    element.showModal();
  });
}

const buttons = (answer, label) => h("div", { class: "row" }, h("button", { type: "button", onclick: () => answer(null) }, "Cancel"), h("button", { class: "main" }, label));

export async function askKey(wrong) {
  const given = await dialog("API key", (answer) => {
    const input = h("input", { type: "password", id: "key", autocomplete: "off", required: true, spellcheck: false });
    return h("form", { onsubmit: (event) => { event.preventDefault(); answer(input.value.trim()); } },
      h("p", { class: "soft" }, wrong ? "The service does not know that key, or it was revoked. Try another one." : "This service asks for a key. Whoever runs it makes one with raytile keys add."),
      h("div", { class: "field" }, h("label", { htmlFor: "key" }, "Key"), input),
      h("p", { class: "soft small" }, "It is kept until you close this tab."), buttons(answer, "Use this key"));
  });
  if (!given) throw CLOSED;
  return given;
}

export const confirm = (title, text, label) =>
  dialog(title, (answer) => h("form", { onsubmit: (event) => { event.preventDefault(); answer(true); } }, h("p", { class: "soft" }, text),
    h("div", { class: "row" }, h("button", { type: "button", onclick: () => answer(null) }, "Keep it"), h("button", { class: "main" }, label))));

const KEYS = [
  ["n", "A new picture"], ["g", "All renders"], ["/", "Write the prompt"], ["Ctrl Enter", "Paint"], ["b", "Draw a box"], ["p", "Draw a polygon"],
  ["r", "Repaint a part"], ["u", "Paint it larger"], ["s", "Show how the sides meet"], ["+ − 0", "Zoom; all of it"], ["Arrows", "Move the picture, or the chosen shape"],
  ["Shift arrows", "Change the chosen box's size"], ["Delete", "Remove the chosen shape"], ["f", "Full screen"], ["Esc", "Leave what you are doing"], ["?", "This list"],
];

export const showKeys = () =>
  dialog("Keyboard", (answer) => h("div", { class: "stack" }, h("dl", {}, KEYS.flatMap(([keys, what]) => [h("dt", {}, keys.split(" ").map((key) => [h("kbd", {}, key), " "]).flat()), h("dd", {}, what)])),
    h("div", { class: "row" }, h("button", { type: "button", autofocus: true, onclick: () => answer(null) }, "Close"))));

// How large; resolves to [width, height].
export const askSize = (width, height) =>
  dialog("Paint it larger", (answer) => {
    const wide = h("input", { type: "number", id: "larger-width", value: width * 2, min: 1, inputMode: "numeric" });
    const high = h("output", { class: "number" }, String(height * 2));
    const set = (value) => { wide.value = value; high.textContent = String(Math.round((value * height) / width)); };
    wide.addEventListener("input", () => { high.textContent = String(Math.round((+wide.value * height) / width)); });
    return h("form", { onsubmit: (event) => { event.preventDefault(); answer([+wide.value, Math.round((+wide.value * height) / width)]); } },
      h("p", { class: "soft" }, "Finer detail is painted over the picture that is there; this makes a new render."),
      h("div", { class: "row" }, [2, 3, 4].map((times) => h("button", { type: "button", onclick: () => set(width * times) }, `${times}×`))),
      h("div", { class: "field" }, h("label", { htmlFor: "larger-width" }, "Width in pixels"), wide), h("p", { class: "soft" }, "Height ", high, " px"), buttons(answer, "Paint it"));
  });
