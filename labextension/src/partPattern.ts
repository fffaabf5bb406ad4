/** A texture for each part, so that colour is never the only sign. */
import { colour, partStyle } from './parts';

const tiles = new Map<string, HTMLCanvasElement>();

/** What to fill a part's bars with. */
export function fill(pen: CanvasRenderingContext2D, part: string): CanvasPattern | string {
  return pen.createPattern(tile(part), 'repeat') ?? colour(part);
}

/** The same for a swatch in the legend, as a CSS background. */
export function background(part: string): string {
  return `${colour(part)} url(${tile(part).toDataURL()})`;
}

function tile(part: string): HTMLCanvasElement {
  const known = tiles.get(part);
  if (known !== undefined) {
    return known;
  }
  const made = document.createElement('canvas');
  made.width = made.height = 8;
  const pen = made.getContext('2d');
  if (pen !== null) {
    pen.fillStyle = colour(part);
    pen.fillRect(0, 0, 8, 8);
    pen.strokeStyle = 'rgba(255, 255, 255, 0.55)';
    pen.lineWidth = 1.2;
    for (const [fromX, fromY, toX, toY] of partStyle(part).texture) {
      pen.beginPath();
      pen.moveTo(fromX, fromY);
      pen.lineTo(toX, toY);
      pen.stroke();
    }
  }
  tiles.set(part, made);
  return made;
}
