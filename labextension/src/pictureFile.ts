/** A run's picture as a PNG file, for slides and mails. */
import type { View } from './types';

const WIDTH = 900;
const MARGIN = 20;
/** Pixels of the file for each of the layout, so that text stays sharp. */
const SCALE = 2;
/** Dark on white whatever the theme, since that is what it is pasted into. */
const COLOURS =
  'color: #212121; background: white; --jp-ui-font-color1: #212121; ' +
  '--jp-ui-font-color2: #5f5f5f; --jp-border-color2: #d8d8d8';

/** Draw the HTML that a run has in a saved notebook, with the run's name above it. */
export async function pictureFile(view: View, html: string): Promise<Blob> {
  const { markup, tall } = await laidOut(html, titleOf(view));
  const drawing =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${tall}">` +
    `<foreignObject width="100%" height="100%">${markup}</foreignObject></svg>`;
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawing)}`;
  await image.decode();
  const target = document.createElement('canvas');
  target.width = WIDTH * SCALE;
  target.height = tall * SCALE;
  const pen = target.getContext('2d');
  pen?.scale(SCALE, SCALE);
  pen?.drawImage(image, 0, 0);
  return new Promise((resolve, reject) => {
    // Some browsers refuse to read a canvas back on which HTML was drawn.
    target.toBlob(blob => {
      if (blob === null) {
        reject(new Error('This browser cannot make a picture: use Insert picture or Save page.'));
      } else {
        resolve(blob);
      }
    }, 'image/png');
  });
}

function titleOf(view: View): string {
  const { name, size, started } = view.run;
  const when = new Date(1000 * started).toLocaleString();
  return `${name} · ${size} rank${size === 1 ? '' : 's'} · ${when}`;
}

/** Lay HTML out in a page of its own, where neither scripts nor the theme reach it. */
async function laidOut(html: string, title: string): Promise<{ markup: string; tall: number }> {
  const frame = document.createElement('iframe');
  frame.sandbox.add('allow-same-origin');
  frame.style.cssText = `position: fixed; left: -${4 * WIDTH}px; border: 0`;
  frame.width = String(WIDTH);
  frame.height = '10';
  frame.srcdoc =
    `<!doctype html><html lang="en"><body style="margin: 0; padding: ${MARGIN}px; ` +
    `font-family: system-ui, sans-serif; ${COLOURS}">${html}</body></html>`;
  const loaded = new Promise(resolve => {
    frame.addEventListener('load', resolve, { once: true });
  });
  document.body.append(frame);
  try {
    await loaded;
    const page = frame.contentDocument;
    if (page === null) {
      throw new Error('This browser shows no page within a page: use Save page.');
    }
    const heading = page.createElement('div');
    heading.style.cssText = 'font-size: 16px; font-weight: 600; margin-bottom: 10px';
    heading.textContent = title;
    page.body.prepend(heading);
    return {
      markup: new XMLSerializer().serializeToString(page.body),
      tall: Math.ceil(page.body.getBoundingClientRect().height)
    };
  } finally {
    frame.remove();
  }
}
