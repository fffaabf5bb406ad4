/** The JupyterLab plugin: one panel, which shows the kernel of the notebook in front. */
import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { INotebookTracker, NotebookActions, type NotebookPanel } from '@jupyterlab/notebook';
import { KernelLink } from './kernelConnection';
import { LedgerPanel } from './panel';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'eai-notebook:plugin',
  description: 'Shows the group of ranks and the ledger of their run.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    restorer: ILayoutRestorer | null
  ): void => {
    const panel = new LedgerPanel(code => {
      const notebook = tracker.currentWidget?.content;
      if (notebook) {
        NotebookActions.insertBelow(notebook);
        notebook.activeCell?.model.sharedModel.setSource(code);
        notebook.activate();
      }
    });
    const links = new Map<NotebookPanel, KernelLink>();

    const show = (): void => {
      const notebook = tracker.currentWidget;
      const link = notebook === null ? undefined : links.get(notebook);
      panel.showKernel(link ?? null, notebook?.title.label ?? '');
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
      execute: () => {
        app.shell.activateById(panel.id);
      }
    });
  }
};

export default plugin;
