/** Several recorded runs in one tab of the main area. */
import { MainAreaWidget } from '@jupyterlab/apputils';
import { Widget } from '@lumino/widgets';
import { ledgerIcon } from './icon';
import { Overlay } from './overlay';
import type { View } from './types';

class OverlayContent extends Widget {
  constructor(views: readonly View[]) {
    super();
    this.addClass('eai-Panel');
    this.addClass('eai-Tab');
    const section = document.createElement('section');
    section.className = 'eai-Panel-section';
    section.setAttribute('aria-label', 'Runs together');
    this._overlay = new Overlay(views);
    section.append(this._overlay.node);
    this.node.append(section);
  }

  override dispose(): void {
    this._overlay.dispose();
    super.dispose();
  }

  private readonly _overlay: Overlay;
}

export function overlayTab(views: readonly View[]): MainAreaWidget {
  const tab = new MainAreaWidget({ content: new OverlayContent(views) });
  tab.id = `eai-notebook-runs-${views.map(view => view.run.id).join('-')}`;
  tab.title.label = `${views.length} runs`;
  tab.title.caption = views.map(view => view.run.name).join(', ');
  tab.title.icon = ledgerIcon;
  tab.title.closable = true;
  return tab;
}
