// What is measured inside a page. Loaded before the page itself; it adds nothing to the document.
window.audit = (() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

  /** Any CSS colour as [r, g, b, a], each 0 to 255 but for a, which is 0 to 1. */
  function rgba(color) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  }

  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);

  function luminance(color) {
    const [r, g, b] = color.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  /** WCAG 2's contrast of two opaque colours. */
  function contrast(a, b) {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  }

  /** The colour behind an element: the backgrounds of its ancestors, laid over each other. */
  function ground(element) {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const layer = rgba(getComputedStyle(at).backgroundColor);
      if (layer[3] > 0) layers.push(layer);
      if (layer[3] === 1) break;
    }
    const paper = matchMedia("(prefers-color-scheme: dark)").matches && !matchMedia("print").matches ? 18 : 255;
    return layers.reduceRight((below, layer) => over(layer, below), [paper, paper, paper, 1]);
  }

  function opacity(element) {
    let value = 1;
    for (let at = element; at; at = at.parentElement) value *= Number(getComputedStyle(at).opacity);
    return value;
  }

  /** Name an element for a person: tag, id or class, and the start of its text. */
  function name(element) {
    const id = element.id ? `#${element.id}` : "";
    const classes = id ? "" : [...element.classList].slice(0, 2).map((c) => `.${c}`).join("");
    const words = (element.getAttribute("aria-label") || element.textContent || "").replace(/\s+/g, " ").trim();
    return `<${element.tagName.toLowerCase()}${id}${classes}> "${words.slice(0, 60)}"`;
  }

  const shown = (element) =>
    element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true }) &&
    element.getClientRects().length > 0;

  /** Hidden from the eye but read aloud. */
  function spoken(element) {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      const box = at.getBoundingClientRect();
      if (/inset\(50%/.test(style.clipPath) || (style.position === "absolute" && box.right < 0)) return true;
    }
    return false;
  }

  function references(element) {
    const found = [];
    for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "for", "headers"]) {
      for (const id of (element.getAttribute(attribute) || "").split(/\s+/).filter(Boolean)) found.push(id);
    }
    for (const attribute of element.attributes) {
      if (/href$/.test(attribute.name) && element.tagName.toLowerCase() !== "a" && attribute.value.startsWith("#"))
        found.push(attribute.value.slice(1));
      for (const match of attribute.value.matchAll(/url\(["']?#([^"')]+)/g)) found.push(match[1]);
    }
    return found;
  }

  function structure() {
    const found = [];
    const say = (kind, element, text) => found.push({ kind, text: `${element ? `${name(element)}: ` : ""}${text}` });
    if (!document.title.trim()) say("document", null, "the page has no title");
    if (!document.documentElement.lang) say("document", null, "the page names no language");
    if (document.querySelectorAll("h1").length !== 1) say("headings", null, "the page does not have exactly one h1");
    let level = 0;
    for (const heading of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
      const own = Number(heading.tagName[1]);
      if (own > level + 1) say("headings", heading, `level ${own} follows level ${level}`);
      level = own;
    }
    const ids = new Set();
    for (const element of document.querySelectorAll("*")) {
      if (element.id && ids.has(element.id)) say("ids", element, "its id is used twice");
      ids.add(element.id);
      for (const id of references(element)) {
        if (!document.getElementById(id)) say("ids", element, `nothing has the id ${id}`);
      }
      const handlers = [...element.attributes].filter((a) => /^on/.test(a.name) || /^\s*javascript:/i.test(a.value));
      if (element.tagName === "SCRIPT" || handlers.length) say("script", element, "the page runs a script");
    }
    for (const image of document.querySelectorAll("img")) {
      if (!image.hasAttribute("alt")) say("alternatives", image, "the image has no alt text");
      if (image.complete && image.naturalWidth === 0) say("alternatives", image, "the image does not load");
    }
    for (const svg of document.querySelectorAll("svg")) {
      const label = svg.getAttribute("aria-label") || svg.querySelector(":scope > title")?.textContent || "";
      if (svg.closest("[aria-hidden=true]")) continue;
      if (svg.getAttribute("role") !== "img") say("alternatives", svg, "the SVG is neither an image nor hidden");
      else if (label.trim().length < 12) say("alternatives", svg, "the SVG's text alternative says nothing");
    }
    for (const table of document.querySelectorAll("table")) tables(table, say);
    return found;
  }

  function tables(table, say) {
    const named = table.caption?.textContent.trim() || table.getAttribute("aria-label");
    if (!named) say("tables", table, "the table has no caption");
    if (!table.querySelector("thead th[scope=col]")) say("tables", table, "no column has a header cell");
    for (const header of table.querySelectorAll("th")) {
      if (!header.hasAttribute("scope")) say("tables", header, "the header cell has no scope");
    }
    for (const row of table.querySelectorAll("tbody tr")) {
      if (!row.querySelector("th[scope=row], th[scope=rowgroup]")) say("tables", row, "the row has no header cell");
    }
    const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };
    for (const part of [table, ...table.querySelectorAll("thead, tbody, tr, td, th")]) {
      // A table that CSS lays out otherwise stays one for a screen reader only by its roles.
      if (!shown(part) || /^table/.test(getComputedStyle(part).display)) continue;
      const wanted = roles[part.tagName] || (part.scope.startsWith("row") ? "rowheader" : "columnheader");
      if (part.getAttribute("role") !== wanted) say("tables", part, `laid out as no table and without role=${wanted}`);
    }
  }

  function overflow() {
    const room = document.documentElement.clientWidth;
    const found = [];
    if (document.documentElement.scrollWidth > room) {
      const wide = document.documentElement.scrollWidth;
      found.push({ kind: "overflow", text: `the page is ${wide} px wide, not ${room}` });
    }
    const scrolls = (at) => at !== document.body && /auto|scroll|hidden|clip/.test(getComputedStyle(at).overflowX);
    for (const element of document.querySelectorAll("body *")) {
      const box = element.getBoundingClientRect();
      const drawn = element.closest("svg") && element.tagName !== "svg";
      if (drawn || !shown(element) || spoken(element)) continue;
      let inside = false;
      for (let at = element.parentElement; at && !inside; at = at.parentElement) inside = scrolls(at);
      if (!inside && (box.right > room + 1 || box.left < -1)) {
        const reach = `${box.left} to ${box.right} of ${room} px`;
        found.push({ kind: "overflow", text: `${name(element)} reaches from ${reach}` });
      }
      const style = getComputedStyle(element);
      if (/hidden|clip/.test(style.overflowX) && element.scrollWidth > element.clientWidth + 1 && box.width > 1) {
        found.push({ kind: "overflow", text: `${name(element)} is cut at its right edge` });
      }
    }
    return found.slice(0, 8);
  }

  /** Text of the page outside of SVG whose contrast is too low. */
  function faintText(least) {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.data.trim() || element.closest("svg, style") || !shown(element) || spoken(element)) continue;
      const below = ground(element);
      const color = rgba(getComputedStyle(element).color);
      color[3] *= opacity(element);
      const got = contrast(over(color, below), below);
      if (got < least) found.push({ kind: "contrast", text: `${name(element)}: ${got.toFixed(2)} : 1` });
    }
    return found.slice(0, 8);
  }

  /** Texts of each figure: where they are in its picture, their colour and their size on the screen. */
  function figureTexts() {
    return [...document.querySelectorAll("svg[role=img]")].filter(shown).map((svg) => {
      const frame = svg.getBoundingClientRect();
      const texts = [...svg.querySelectorAll("text")].filter((t) => t.textContent.trim() && shown(t)).map((text) => {
        const box = text.getBoundingClientRect();
        const matrix = text.getScreenCTM();
        const style = getComputedStyle(text);
        const color = rgba(style.fill);
        color[3] *= Number(style.fillOpacity) * opacity(text);
        return {
          text: text.textContent.trim(),
          size: parseFloat(style.fontSize) * Math.sqrt(Math.abs(matrix.a * matrix.d - matrix.b * matrix.c)),
          box: [box.left - frame.left, box.top - frame.top, box.width, box.height],
          color,
        };
      });
      return { name: name(svg), width: frame.width, height: frame.height, texts };
    });
  }

  function links() {
    return [...document.querySelectorAll("a[href], link[href]")].map((link) => ({
      href: link.getAttribute("href"),
      name: name(link),
      words: link.tagName === "A" ? (link.getAttribute("aria-label") || link.textContent).trim() : "-",
    }));
  }

  const reach = "a[href], button, input, select, textarea, summary, [tabindex]:not([tabindex='-1'])";
  const focusable = () => [...document.querySelectorAll(reach)].filter(shown);

  /** Where the focus is, and whether a reader can see it. */
  function focus() {
    const at = document.activeElement;
    if (!at || at === document.body || at === document.documentElement) return null;
    const style = getComputedStyle(at);
    const box = at.getBoundingClientRect();
    const scroller = /auto|scroll/.test(style.overflowX + style.overflowY) && !at.matches(reach);
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const clear = outlined && contrast(rgba(style.outlineColor), ground(at.parentElement)) >= 3;
    const inView = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    return { index: focusable().indexOf(at), name: name(at), clear, inView, scroller, inMain: !!at.closest("main") };
  }

  return {
    structure, overflow, faintText, figureTexts, links, focus, contrast, over, name,
    focusable: () => focusable().map((e) => ({ name: name(e), late: e.tabIndex > 0 })),
    ids: () => [...document.querySelectorAll("[id]")].map((e) => e.id),
    open: () => document.querySelectorAll("details").forEach((d) => { d.open = true; }),
    ground: () => ground(document.body),
  };
})();
