/** Selecting a stretch of an axis with the pointer: a drag is a stretch, a click a point. */

/** A drag shorter than this is a click. */
const LEAST_PX = 5;

export class Brush {
  /**
   * `onStretch` gets both ends as shares of the plot's width, in order; `onPoint` where a click
   * was. The pointer's drag is shown in `node`, which lies over the plot.
   */
  constructor(
    target: HTMLElement | SVGElement,
    onStretch: (from: number, to: number) => void,
    onPoint: (at: number) => void
  ) {
    this.node.className = 'eai-Chart-brush';
    this.node.hidden = true;
    target.addEventListener('pointerdown', event => {
      if ((event as PointerEvent).button === 0) {
        this._began = share(target, event as PointerEvent);
        target.setPointerCapture((event as PointerEvent).pointerId);
      }
    });
    target.addEventListener('pointermove', event => {
      if (this._began !== null) {
        this._show(target, this._began, share(target, event as PointerEvent));
      }
    });
    target.addEventListener('pointerup', event => {
      const began = this._began;
      this._end();
      if (began === null) {
        return;
      }
      const ended = share(target, event as PointerEvent);
      if (Math.abs(ended - began) * target.clientWidth < LEAST_PX) {
        onPoint(began);
      } else {
        onStretch(Math.min(began, ended), Math.max(began, ended));
      }
    });
    target.addEventListener('pointercancel', () => {
      this._end();
    });
  }

  readonly node = document.createElement('div');

  private _show(target: Element, from: number, to: number): void {
    this.node.hidden = Math.abs(to - from) * target.clientWidth < LEAST_PX;
    this.node.style.left = `${100 * Math.min(from, to)}%`;
    this.node.style.width = `${100 * Math.abs(to - from)}%`;
  }

  private _end(): void {
    this._began = null;
    this.node.hidden = true;
  }

  private _began: number | null = null;
}

function share(target: Element, event: PointerEvent): number {
  const box = target.getBoundingClientRect();
  return Math.min(1, Math.max(0, (event.clientX - box.left) / (box.width || 1)));
}
