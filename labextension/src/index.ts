/** The JupyterLab plugin: one panel, which shows the kernel of the notebook in front. */
import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker, NotebookActions, type NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { ICodeCellModel } from '@jupyterlab/cells';
import { ToolbarButton } from '@jupyterlab/ui-components';
import { ledgerIcon } from './icon';
import { KernelLink } from './kernelConnection';
import { runRenderer } from './output';
import { overlayTab } from './overlayTab';
import { type Insert, LedgerPanel } from './panel';
import { noteFolder } from './recordsView';
import { notifyOfEnds } from './runNotifier';
import { runTab } from './runTab';
import type { Widget } from '@lumino/widgets';

/** Whether this browser has seen the panel. */
const SHOWN = 'eai-notebook:shown';
const FIRST_CELL = '%load_ext eai_notebook\n%eai up -n 2';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'eai-notebook:plugin',
  description: 'Shows the group of ranks and the ledger of their run.',
  autoStart: true,
  requires: [INotebookTracker, IRenderMimeRegistry],
  optional: [ILayoutRestorer, ILauncher, ILabShell],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    rendermime: IRenderMimeRegistry,
    restorer: ILayoutRestorer | null,
    launcher: ILauncher | null,
    labShell: ILabShell | null
  ): void => {
    rendermime.addFactory(runRenderer);
    notifyOfEnds();
    const insert: Insert = (code, data) => {
      const notebook = tracker.currentWidget?.content;
      if (!notebook) {
        return;
      }
      NotebookActions.insertBelow(notebook);
      const cell = notebook.activeCell;
      cell?.model.sharedModel.setSource(code);
      if (data !== undefined && cell?.model.type === 'code') {
        const model = cell.model as ICodeCellModel;
        // It is our kernel's own picture, so that it is shown as it is.
        model.trusted = true;
        model.outputs.add({ output_type: 'display_data', data, metadata: {} });
      }
      notebook.activate();
    };
    const tabs = new Map<string, Widget>();
    const openTab = (made: Widget): void => {
      const tab = tabs.get(made.id) ?? made;
      if (tab === made) {
        tabs.set(made.id, made);
        made.disposed.connect(() => tabs.delete(made.id));
        app.shell.add(made, 'main', { mode: 'split-right' });
      } else {
        made.dispose();
      }
      app.shell.activateById(tab.id);
    };
    // Notebook 7 shows one document at a time.
    const panel = new LedgerPanel(
      insert,
      labShell === null
        ? null
        : {
            openRun: (link, recorded) => {
              openTab(runTab(link, recorded));
            },
            openRuns: views => {
              openTab(overlayTab(views));
            }
          },
      app.serviceManager.sessions
    );
    const links = new Map<NotebookPanel, KernelLink>();

    const show = (): void => {
      const notebook = tracker.currentWidget;
      const link = notebook === null ? undefined : links.get(notebook);
      panel.showKernel(link ?? null, notebook?.title.label ?? '');
      if (notebook !== null) {
        noteFolder(notebook.context.path);
      }
    };

    const open = (): void => {
      app.shell.activateById(panel.id);
    };

    /** A notebook that uses us has the panel beside it the first time, and then as it was left. */
    const showOnce = (notebook: NotebookPanel): void => {
      void notebook.context.ready.then(() => {
        const { cells } = notebook.content.model ?? {};
        const uses = Array.from(cells ?? []).some(cell =>
          cell.sharedModel.getSource().includes('eai_notebook')
        );
        if (uses && window.localStorage.getItem(SHOWN) === null) {
          window.localStorage.setItem(SHOWN, 'yes');
          open();
        }
      });
    };

    const attach = (notebook: NotebookPanel): void => {
      links.get(notebook)?.dispose();
      links.delete(notebook);
      const kernel = notebook.sessionContext.session?.kernel;
      if (kernel) {
        links.set(notebook, new KernelLink(kernel));
      }
      show();
    };

    tracker.widgetAdded.connect((_, notebook) => {
      attach(notebook);
      showOnce(notebook);
      if (labShell === null) {
        // Notebook 7 has no icons at its side that would show the panel's existence.
        notebook.toolbar.addItem(
          'eai-notebook-show',
          new ToolbarButton({
            icon: ledgerIcon,
            label: 'Ranks',
            tooltip: 'Show ranks and ledger',
            onClick: open
          })
        );
      }
      notebook.sessionContext.kernelChanged.connect(() => {
        attach(notebook);
      });
      notebook.disposed.connect(() => {
        links.get(notebook)?.dispose();
        links.delete(notebook);
        show();
      });
    });
    tracker.currentChanged.connect(show);

    app.shell.add(panel, 'right', { rank: 900 });
    restorer?.add(panel, panel.id);
    app.commands.addCommand('eai-notebook:show', {
      label: 'Show Ranks and Ledger',
      execute: open
    });
    app.commands.addCommand('eai-notebook:new', {
      label: 'Distributed training',
      caption: 'A notebook that starts a group of ranks, with the panel beside it',
      icon: ledgerIcon,
      execute: async args => {
        const kernelName = app.serviceManager.kernelspecs.specs?.default;
        const created = (await app.commands.execute('notebook:create-new', {
          cwd: args.cwd,
          kernelName
        })) as NotebookPanel | undefined;
        await created?.context.ready;
        created?.content.activeCell?.model.sharedModel.setSource(FIRST_CELL);
        open();
      }
    });
    launcher?.add({
      command: 'eai-notebook:new',
      category: 'Notebook',
      rank: 50,
      // Cards of notebooks have a picture where others have an icon.
      kernelIconUrl: `data:image/svg+xml,${encodeURIComponent(ledgerIcon.svgstr)}`
    });
  }
};

export default plugin;
