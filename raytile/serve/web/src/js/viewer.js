// The picture in OpenSeadragon: by DeepZoom tiles, looked at anew while it is being painted, without a flicker.

import { ask, headers } from "./api.js";
import { h } from "./dom.js";

const OSD = window.OpenSeadragon;
const FADE = 260; // milliseconds
const STALE = 20000; // milliseconds after which a fresh picture is shown as far as it has come

async function describe(url) {
  const text = await (await ask(url)).text();
  const image = new DOMParser().parseFromString(text, "application/xml").documentElement;
  const size = image.getElementsByTagNameNS("*", "Size")[0];
  const number = (element, name) => Number(element.getAttribute(name));
  return {
    width: number(size, "Width"), height: number(size, "Height"), tileSize: number(image, "TileSize"),
    tileOverlap: number(image, "Overlap"), fileFormat: image.getAttribute("Format"), tilesUrl: url.replace(/\.dzi$/, "_files/"),
  };
}

// OpenSeadragon would add style rules of its own, which the page's policy forbids, unless it finds an element of this
// name: one that means nothing to browsers.
const there = document.createElementNS("urn:raytile", "style");
there.setAttribute("data-openseadragon-mobile-css", "true");
document.head.append(there);

export class Viewer {
  // `told`: {moved(at), tileFailed(message), ready()}
  constructor(room, told = {}) {
    this.told = told;
    this.version = 0;
    this.wanted = null; // of a refresh that has to wait
    this.fresh = null; // the picture that is being loaded behind the one that is seen
    this.seam = "none";
    this.element = h("div", { class: "viewer", dataset: { loaded: 0, failed: 0 } });
    this.scale = h("div", { class: "scale", "aria-hidden": "true" }, h("span"), h("i"));
    room.append(this.element, this.scale);
    this.osd = OSD({
      element: this.element, drawer: "canvas", showNavigationControl: false, loadTilesWithAjax: true, ajaxHeaders: headers(),
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true }, animationTime: 0.6, springStiffness: 9,
      visibilityRatio: 0.25, minZoomImageRatio: 0.6, maxZoomPixelRatio: 8, imageSmoothingEnabled: true,
      placeholderFillStyle: null, silenceMultiImageWarnings: true, imageLoaderLimit: 6, tileRetryMax: 2, tileRetryDelay: 900,
      maxTilesPerFrame: 8, viewportMargins: margins(room),
    });
    this.osd.canvas.setAttribute("aria-label", "The picture: arrow keys move it, plus and minus zoom, 0 shows all of it");
    this.osd.canvas.setAttribute("role", "application");
    this.osd.addHandler("tile-loaded", () => this.#count("loaded"));
    this.osd.addHandler("tile-load-failed", ({ message }) => { this.#count("failed"); this.told.tileFailed?.(message); });
    this.osd.addHandler("animation-finish", () => this.told.moved?.(this.at()));
    this.osd.addHandler("update-viewport", () => this.#measure());
    this.osd.addHandler("resize", () => this.#measure());
  }

  // Shows the picture at `url` (….dzi). `at`: [x, y, zoom] as `at()` gives it.
  async open(url, { at = null } = {}) {
    this.url = url;
    this.source = await describe(url);
    if (this.closed || this.url !== url) return;
    this.osd.world.removeAll();
    this.fresh = null;
    const item = await this.#add(1);
    if (this.closed || !item) return;
    this.item = item;
    this.osd.viewport.goHome(true);
    if (at) this.go(at);
    this.told.ready?.();
  }

  // Asks for the tiles again, behind those that are seen; they are exchanged once all in sight are there.
  async refresh() {
    if (!this.item || this.closed) return;
    if (this.fresh) {
      this.wanted = true;
      return;
    }
    this.fresh = true;
    this.version += 1;
    const item = await this.#add(0);
    if (!item || this.closed) return;
    this.fresh = item;
    const late = setTimeout(() => exchange(), STALE);
    const exchange = () => {
      clearTimeout(late);
      if (this.fresh !== item || this.closed) return;
      this.#fade(item);
    };
    item.whenFullyLoaded(exchange);
  }

  #fade(item) {
    const before = this.item;
    const begun = performance.now();
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (now) => {
      if (this.closed || this.fresh !== item) return;
      const share = calm ? 1 : Math.min(1, (now - begun) / FADE);
      item.setOpacity(Math.max(share, 0.01));
      if (share < 1) {
        requestAnimationFrame(step);
        return;
      }
      item.setPreload(false);
      this.item = item;
      this.fresh = null;
      this.osd.world.removeItem(before);
      this.told.refreshed?.(this.version);
      if (this.wanted) {
        this.wanted = null;
        this.refresh();
      }
    };
    requestAnimationFrame(step);
  }

  #add(opacity) {
    const query = this.version ? `?v=${this.version}` : "";
    const tileSource = new OSD.DziTileSource({ ...this.source, queryParams: query });
    return new Promise((done) => {
      this.osd.addTiledImage({
        tileSource, opacity, preload: opacity === 0, ajaxHeaders: headers(),
        success: ({ item }) => { this.#wrap(item); done(item); }, error: () => done(null),
      });
    });
  }

  // "none", or which sides are seen meeting in the middle: "x", "y", "xy".
  showSeam(sides) {
    this.seam = sides;
    if (!this.item) return;
    this.#wrap(this.item);
    if (this.fresh?.setOpacity) this.#wrap(this.fresh);
    const viewport = this.osd.viewport;
    const height = this.source.height / this.source.width;
    if (sides === "none") viewport.goHome();
    else viewport.panTo(new OSD.Point(sides.includes("x") ? 0 : 0.5, sides.includes("y") ? 0 : height / 2));
    this.osd.forceRedraw();
  }

  #wrap(item) {
    item.wrapHorizontal = this.seam.includes("x");
    item.wrapVertical = this.seam.includes("y");
  }

  // Kept where tests and the curious see it.
  #count(what) { this.element.dataset[what] = Number(this.element.dataset[what]) + 1; }

  // Centre in shares of the picture's width, and the zoom in shares of the one at which all is seen.
  at() {
    const viewport = this.osd.viewport;
    const centre = viewport.getCenter();
    return [centre.x, centre.y, viewport.getZoom() / viewport.getHomeZoom()].map((value) => Number(value.toFixed(4)));
  }

  go([x, y, zoom]) {
    if (![x, y, zoom].every(Number.isFinite)) return;
    const viewport = this.osd.viewport;
    viewport.zoomTo(zoom * viewport.getHomeZoom(), null, true);
    viewport.panTo(new OSD.Point(x, y), true);
    viewport.applyConstraints(true);
  }

  zoom(factor) { this.osd.viewport.zoomBy(factor); this.osd.viewport.applyConstraints(); }
  home() { this.osd.viewport.goHome(); }
  grab(dragging) { this.osd.gestureSettingsMouse.dragToPan = dragging; this.osd.gestureSettingsTouch.dragToPan = dragging; }

  // Between pixels of the picture and pixels of the stage.
  toStage(x, y) {
    const point = this.osd.viewport.pixelFromPoint(new OSD.Point(x / this.source.width, y / this.source.width), true);
    return [point.x, point.y];
  }

  toPicture(x, y) {
    const point = this.osd.viewport.pointFromPixel(new OSD.Point(x, y), true);
    return [point.x * this.source.width, point.y * this.source.width];
  }

  // Whether any of a box (x, y, width, height in pixels of the picture) is on the stage.
  sees([x, y, width, height]) {
    if (!this.source || this.seam !== "none") return true;
    const seen = this.osd.viewport.getBounds(true);
    const one = 1 / this.source.width;
    return x * one < seen.x + seen.width && (x + width) * one > seen.x && y * one < seen.y + seen.height && (y + height) * one > seen.y;
  }

  onMove(call) {
    this.osd.addHandler("update-viewport", call);
    return () => this.osd.removeHandler("update-viewport", call);
  }

  #measure() {
    if (!this.source) return;
    const one = this.osd.viewport.deltaPixelsFromPoints(new OSD.Point(1 / this.source.width, 0), true).x;
    const power = 2 ** Math.floor(Math.log2(Math.max(1, 150 / one)));
    this.scale.firstChild.textContent = `${power} px`;
    this.scale.lastChild.style.width = `${(power * one).toFixed(1)}px`;
  }

  close() {
    this.closed = true;
    this.osd.destroy();
    this.element.remove();
    this.scale.remove();
  }
}


// Room around the picture, so that its sides are seen.
function margins(room) {
  const wide = room.clientWidth > 600;
  return wide ? { left: 32, right: 32, top: 72, bottom: 56 } : { left: 12, right: 12, top: 68, bottom: 48 };
}
