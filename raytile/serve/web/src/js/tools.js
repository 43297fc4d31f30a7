// What one looks at a picture with: zoom, all of it, full screen, and how its sides meet.

import { h, iconButton } from "./dom.js";

const ZOOM = 1.6;

export class Tools {
  // `sides`: which sides of the picture meet ("none", "x", "y", "xy").
  constructor(room, viewer, sides) {
    Object.assign(this, { viewer, sides });
    this.seamButton = iconButton("seam", "Show how the sides meet (s)", () => this.seam(), { "aria-pressed": "false", hidden: sides === "none" });
    this.note = h("p", { class: "seam-note", role: "status", hidden: true });
    room.append(h("div", { class: "tools top", role: "toolbar", "aria-label": "View" }, this.seamButton,
      iconButton("plus", "Zoom in (+)", () => viewer.zoom(ZOOM)), iconButton("minus", "Zoom out (−)", () => viewer.zoom(1 / ZOOM)),
      iconButton("fit", "All of it (0)", () => viewer.home()), iconButton("full", "Full screen (f)", () => this.fullScreen())), this.note);
    this.room = room;
  }

  get showsSeam() { return this.viewer.seam !== "none"; }

  seam(wanted = !this.showsSeam) {
    if (!this.viewer.item || this.sides === "none" || wanted === this.showsSeam) return;
    this.viewer.showSeam(wanted ? this.sides : "none");
    this.seamButton.setAttribute("aria-pressed", String(wanted));
    const which = { x: "left and right side meet", y: "top and bottom meet", xy: "four corners meet" }[this.sides];
    this.note.textContent = `The picture repeats; its ${which} in the middle.`;
    this.note.hidden = !wanted;
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.getElementById("stage").requestFullscreen?.();
  }

  shortcut(key) {
    const keys = {
      s: () => this.seam(), f: () => this.fullScreen(), "+": () => this.viewer.zoom(ZOOM), "=": () => this.viewer.zoom(ZOOM),
      "-": () => this.viewer.zoom(1 / ZOOM), 0: () => this.viewer.home(), Escape: () => this.seam(false),
    };
    if (!(key in keys)) return false;
    keys[key]();
    return true;
  }
}

// Which sides meet, of a wish.
export const sidesOf = ({ wrap, topology }) => (topology === "equirectangular" ? "x" : (wrap ?? "none"));
