/** The numbers of one bar, in a box beside the pointer. */
import type { Measured, View } from './types';
import { background } from './partPattern';
import { ms, percent, sum } from './formatting';

export class Tooltip {
  constructor() {
    this.node.className = 'eai-Tooltip';
    this.node.hidden = true;
  }

  readonly node = document.createElement('div');

  /** Show a bar's parts at a point of the plot; returns the same in words. */
  show(
    view: View,
    title: string,
    values: readonly Measured[],
    missing: Measured,
    left: number,
    top: number
  ): string {
    const whole = sum(values) + (missing ?? 0);
    const rows = view.parts.flatMap((part, place) => {
      const value = values[place] ?? null;
      return value === null ? [] : [{ part, value, swatch: background(part) }];
    });
    if ((missing ?? 0) > 0) {
      rows.push({ part: 'not measured', value: missing ?? 0, swatch: '' });
    }
    const heading = document.createElement('div');
    const name = document.createElement('span');
    name.className = 'eai-Chart-pointed';
    name.textContent = title;
    heading.append(name, ` ${ms(whole)}`);
    const lines = rows.map(({ part, value, swatch }) => {
      const line = document.createElement('div');
      const mark = document.createElement('span');
      mark.className = `eai-Chart-swatch${swatch === '' ? ' eai-mod-unmeasured' : ''}`;
      mark.style.background = swatch;
      const amount = document.createElement('span');
      amount.className = 'eai-Tooltip-value';
      amount.textContent = `${ms(value)} · ${percent(whole > 0 ? value / whole : 0)}`;
      line.append(mark, part, amount);
      return line;
    });
    this.node.replaceChildren(heading, ...lines);
    this.node.hidden = false;
    this._place(left, top);
    const words = rows.map(({ part, value }) => `${part} ${ms(value)}`).join(', ');
    return `${title}, ${ms(whole)}: ${words}`;
  }

  hide(): void {
    this.node.hidden = true;
  }

  /** Put the box beside the point, on the side that has room. */
  private _place(left: number, top: number): void {
    const room = this.node.parentElement?.clientWidth ?? 0;
    const wide = this.node.offsetWidth;
    const right = left + 12;
    const x = right + wide <= room ? right : left - 12 - wide;
    this.node.style.left = `${Math.max(-48, Math.min(x, room - wide))}px`;
    this.node.style.top = `${top}px`;
  }
}
