/** The panel's width the first time: in JupyterLab's own of 250 pixels its lines would be cut. */
import { SplitPanel, type Widget } from '@lumino/widgets';

/** Whether this browser has had the panel widened: then it is as wide as its user made it. */
const WIDENED = 'eai-notebook:widened';
const WIDE_ENOUGH_PX = 340;

/** Make the side area of a panel that is shown wide enough for it, once. */
export function widenOnce(panel: Widget): void {
  const area = panel.parent;
  if (window.localStorage.getItem(WIDENED) !== null || !panel.isVisible) {
    return;
  }
  for (let inside = area; inside?.parent; inside = inside.parent) {
    const split = inside.parent;
    if (split instanceof SplitPanel && split.orientation === 'horizontal') {
      window.localStorage.setItem(WIDENED, 'yes');
      widen(split, split.widgets.indexOf(inside), panel.node.clientWidth);
      return;
    }
  }
}

function widen(split: SplitPanel, position: number, wide: number): void {
  const sizes = split.relativeSizes();
  const lacking = (WIDE_ENOUGH_PX - wide) / (split.node.clientWidth || 1);
  const from = sizes.indexOf(Math.max(...sizes));
  const [own, other] = [sizes[position], sizes[from]];
  if (lacking > 0 && own !== undefined && other !== undefined && other > 2 * lacking) {
    sizes[position] = own + lacking;
    sizes[from] = other - lacking;
    split.setRelativeSizes(sizes);
  }
}
