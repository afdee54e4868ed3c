// A reader with a keyboard: the skip link works, Tab reaches everything in reading order, and the focus can be seen.
"use strict";

/** Walk through an open page with the Tab key; returns findings. */
async function keyboard(page) {
  const found = await skip(page);
  // The skip link has moved the place from which Tab goes on.
  const url = page.url().replace(/#.*/, "");
  await page.goto("about:blank");
  await page.goto(url);
  const wanted = await page.evaluate(() => window.audit.focusable());
  for (const { name, late } of wanted) {
    if (late) found.push({ kind: "focus", text: `${name} has a tabindex above 0` });
  }
  let before = -1;
  for (let step = 0; step < wanted.length * 2 + 20; step += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => window.audit.focus());
    if (!at || (at.index === 0 && before > 0)) break;
    if (!at.clear) found.push({ kind: "focus", text: `${at.name} has no clear focus outline` });
    if (!at.inView) found.push({ kind: "focus", text: `${at.name} is focused out of sight` });
    if (at.scroller) continue; // the browser itself lets a scrolling box be focused
    if (at.index !== before + 1) {
      found.push({ kind: "focus", text: `${at.name} comes as number ${at.index}, after number ${before}` });
    }
    before = at.index;
  }
  if (before !== wanted.length - 1) {
    found.push({ kind: "focus", text: `Tab reaches ${before + 1} of ${wanted.length} elements` });
  }
  return found;
}

async function skip(page) {
  await page.keyboard.press("Tab");
  const first = await page.evaluate(() => {
    const at = document.activeElement;
    const box = at.getBoundingClientRect();
    const seen = box.left >= 0 && box.top >= 0 && box.width > 20;
    return { href: at.getAttribute("href"), words: at.textContent, seen };
  });
  if (!first.href?.startsWith("#") || !/skip/i.test(first.words)) {
    return [{ kind: "focus", text: "the first thing that Tab reaches is no skip link" }];
  }
  const found = first.seen ? [] : [{ kind: "focus", text: "the skip link cannot be seen when it is focused" }];
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  const after = await page.evaluate(() => {
    const target = document.querySelector(location.hash || "#-");
    const at = document.activeElement;
    const behind = target && target.compareDocumentPosition(at) & Node.DOCUMENT_POSITION_FOLLOWING;
    return { hash: location.hash, inside: Boolean(target?.contains(at) || behind) || at === document.body };
  });
  if (after.hash !== first.href || !after.inside) {
    found.push({ kind: "focus", text: `the skip link does not lead to ${first.href}` });
  }
  return found;
}

module.exports = { keyboard };
