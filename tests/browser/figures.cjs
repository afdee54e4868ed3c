// Text inside SVG, which axe does not look at: its size on the screen, its contrast with what is drawn behind it,
// and whether it is cut or lies on other text.
"use strict";

const SMALLEST = 9;
const CONTRAST = 4.5;
// The share of a text's pixels that may lie on something darker or lighter: a grid line, the end of a curve.
const CROSSED = 0.2;

/** Look at every figure of an open page; returns findings. */
async function figures(page, paper) {
  const found = [];
  const described = await page.evaluate(() => window.audit.figureTexts());
  const handles = await page.$$("svg[role=img]");
  const visible = [];
  for (const handle of handles) if (await handle.isVisible()) visible.push(handle);
  const hide = await page.addStyleTag({ content: "svg[role=img] text { visibility: hidden !important }" });
  for (const [index, figure] of described.entries()) {
    found.push(...sizes(figure));
    const picture = (await visible[index].screenshot()).toString("base64");
    for (const text of await faint(paper, picture, figure)) {
      found.push({ kind: "contrast", text: `${figure.name}: ${text}` });
    }
  }
  await hide.evaluate((style) => style.remove());
  return found;
}

function sizes({ name, width, height, texts }) {
  const found = [];
  const small = texts.filter(({ size }) => size < SMALLEST);
  if (small.length) {
    const least = Math.min(...small.map(({ size }) => size)).toFixed(1);
    const such = `${small.length} texts, down to ${least} px, such as "${small[0].text}"`;
    found.push({ kind: "small text", text: `${name}: ${such}` });
  }
  for (const { text, box } of texts) {
    const [x, y, w, h] = box;
    if (x < -1 || y < -1 || x + w > width + 1 || y + h > height + 1) {
      found.push({ kind: "figure text", text: `${name}: "${text}" reaches out of the picture` });
    }
  }
  for (const [i, a] of texts.entries()) {
    for (const b of texts.slice(i + 1)) {
      if (overlap(a.box, b.box) > 0.15) {
        found.push({ kind: "figure text", text: `${name}: "${a.text}" lies on "${b.text}"` });
      }
    }
  }
  return found;
}

function overlap([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const w = Math.min(ax + aw, bx + bw) - Math.max(ax, bx);
  const h = Math.min(ay + ah, by + bh) - Math.max(ay, by);
  return w > 0 && h > 0 ? (w * h) / Math.min(aw * ah, bw * bh) : 0;
}

/** Texts that are too faint on the picture of the figure without its texts; `paper` is a page to draw it on. */
function faint(paper, picture, figure) {
  return paper.evaluate(
    async ({ picture, figure, least, crossed }) => {
      const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob());
      const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d", { willReadFrequently: true });
      canvas.drawImage(image, 0, 0);
      const scale = image.width / figure.width;
      const found = [];
      for (const { text, box, color } of figure.texts) {
        const [x, y, w, h] = box.map((side) => Math.round(side * scale));
        const { data } = canvas.getImageData(Math.max(0, x), Math.max(0, y), Math.max(1, w), Math.max(1, h));
        let bad = 0, worst = 21;
        for (let at = 0; at < data.length; at += 4) {
          const below = [data[at], data[at + 1], data[at + 2], 1];
          if (!data[at + 3]) continue;
          const got = window.audit.contrast(window.audit.over(color, below), below);
          if (got < least) bad += 1;
          worst = Math.min(worst, got);
        }
        if (bad > (crossed * data.length) / 4) found.push(`"${text}" has a contrast of ${worst.toFixed(2)} : 1`);
      }
      return found;
    },
    { picture, figure, least: CONTRAST, crossed: CROSSED },
  );
}

module.exports = { figures };
