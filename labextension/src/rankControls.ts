/** The order of the ranks in the charts, and whether hosts are folded. */
import type { View } from './types';
import { element } from './drawing';
import { type Arrangement, AS_THEY_ARE, type Order } from './rankRows';

/** From so many ranks on an order other than their own is of use. */
const ENOUGH = 3;

const ORDERS: Readonly<Record<Order, string>> = {
  rank: 'by number',
  slowest: 'slowest first',
  waiting: 'most waiting first'
};

export class RankControls {
  constructor(onChange: () => void) {
    this._order.append(...Object.entries(ORDERS).map(([value, text]) => new Option(text, value)));
    this._order.setAttribute('aria-label', 'Order of the ranks');
    this._order.addEventListener('change', () => {
      this._arrangement = { ...this._arrangement, order: this._order.value as Order };
      onChange();
    });
    this._fold.type = 'checkbox';
    this._fold.addEventListener('change', () => {
      this._arrangement = { ...this._arrangement, isFolded: this._fold.checked, open: new Set() };
      onChange();
    });
    this._hosts.append(this._fold, 'fold hosts');
    this.node.append('ranks ', this._order, this._hosts);
    this._onChange = onChange;
  }

  readonly node = element('div', 'eai-Chart-arrange');

  get arrangement(): Arrangement {
    return this._arrangement;
  }

  /** Show the ranks of a folded host, or hide them again. */
  toggle(host: string): void {
    const open = new Set(this._arrangement.open);
    if (!open.delete(host)) {
      open.add(host);
    }
    this._arrangement = { ...this._arrangement, open };
    this._onChange();
  }

  draw(view: View): void {
    this.node.hidden = view.ranks.length < ENOUGH;
    this._hosts.hidden = view.run.hosts.length < 2;
  }

  private _arrangement: Arrangement = AS_THEY_ARE;
  private readonly _onChange: () => void;
  private readonly _order = document.createElement('select');
  private readonly _fold = document.createElement('input');
  private readonly _hosts = document.createElement('label');
}
