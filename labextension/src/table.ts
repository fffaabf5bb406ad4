/** The ranks' numbers as a table, for who hears the page instead of seeing it. */
import type { View } from './types';
import { ms, sum } from './formatting';

/** The table of a run that goes on is made anew this often at most. */
const REFRESH_MS = 2000;

export class RankTable {
  constructor() {
    // A table is never smaller than its cells: a box around it hides it.
    this.node.className = 'eai-Chart-table';
    this.node.append(this._table);
  }

  readonly node = document.createElement('div');

  draw(view: View): void {
    const now = Date.now();
    if (view.run.state === 'running' && now - this._drawn < REFRESH_MS) {
      return;
    }
    this._drawn = now;
    const caption = document.createElement('caption');
    caption.textContent = `Mean time of each part in a step of ${view.run.name}, by rank`;
    const head = row('th', ['rank', ...view.parts, 'step']);
    head.querySelectorAll('th').forEach(cell => {
      cell.scope = 'col';
    });
    const body = view.ranks.map(rank =>
      row('td', [
        `${rank.rank} on ${rank.host}`,
        ...rank.ms.map(value => (value === null ? 'not measured' : ms(value))),
        ms(sum(rank.ms))
      ])
    );
    this._table.replaceChildren(caption, head, ...body);
  }

  private _drawn = 0;
  private readonly _table = document.createElement('table');
}

function row(tag: 'th' | 'td', texts: readonly string[]): HTMLTableRowElement {
  const made = document.createElement('tr');
  made.append(
    ...texts.map(text => {
      const cell = document.createElement(tag);
      cell.textContent = text;
      return cell;
    })
  );
  return made;
}
