/**
 * The line between the panel and one kernel.
 *
 * Two comms, each sent on by one side only: the kernel pushes on the one with the fixed id,
 * the panel commands on the other. A comm that the kernel's main thread has sent on would
 * be handled there, that is, after the running cell; see `eai_notebook/display/panel.py`.
 */
import type { Kernel } from '@jupyterlab/services';
import type { Answer, Push } from './model';
import { KernelState } from './state';

const PUSH_TARGET = 'eai_notebook';
const PUSH_ID = 'eai_notebook_push';
const CONTROL_TARGET = 'eai_notebook_ctl';
/** How long a command may stay unanswered before the panel goes another way. */
const PATIENCE_MS = 1500;

let links = 0;

export class KernelLink {
  constructor(kernel: Kernel.IKernelConnection) {
    this._kernel = kernel;
    kernel.registerCommTarget(PUSH_TARGET, this._onPushOpen);
    kernel.statusChanged.connect(this._onStatus);
    this._listen();
    void this._greet();
  }

  /** Tells links apart: a restarted kernel gets a new one. */
  readonly id = ++links;
  readonly state = new KernelState();

  /** Start a group by running the magic, as a person would: it also loads the extension. */
  async start(ranks: number): Promise<void> {
    const notice = `Starting ${ranks} rank${ranks === 1 ? '' : 's'}…`;
    this.state.set({ notice, pending: true });
    const code = `%load_ext eai_notebook\n%eai up -n ${ranks}`;
    let failure = '';
    try {
      const reply = await this._kernel.requestExecute({ code, store_history: false }).done;
      failure = reply.content.status === 'error' ? reply.content.evalue : '';
    } catch {
      failure = 'The kernel went away while the group started.';
    }
    this.state.set({ notice: failure, pending: false });
  }

  /** Stop what the ranks are running. */
  async stop(): Promise<void> {
    this.state.set({ notice: 'Stopping…' });
    if (!(await this._command('interrupt'))) {
      // No answer: the comm may wait behind the cell. The server can always interrupt.
      await this._kernel.interrupt();
    }
    this._clearNotice('Stopping…');
  }

  /** End the group. */
  async shutDown(): Promise<void> {
    this.state.set({ notice: 'Shutting down…', pending: true });
    if (!(await this._command('down', 60_000))) {
      this.state.set({ notice: 'The kernel did not answer. Try %eai down in a cell.' });
    }
    this._clearNotice('Shutting down…');
    this.state.set({ pending: false });
  }

  dispose(): void {
    this._isDisposed = true;
    quietly(() => {
      this._kernel.removeCommTarget(PUSH_TARGET, this._onPushOpen);
      this._kernel.statusChanged.disconnect(this._onStatus);
    });
  }

  /** Hear what the kernel pushes even if this page was not there when the comm opened. */
  private _listen(): void {
    if (this._kernel.handleComms && !this._kernel.hasComm(PUSH_ID)) {
      this._hear(this._kernel.createComm(PUSH_TARGET, PUSH_ID));
    }
  }

  private _hear(comm: Kernel.IComm): void {
    comm.onMsg = message => {
      this._onPush(message.content.data as unknown as Push);
    };
  }

  /**
   * Open the control comm if the kernel has our extension; a kernel that does not would
   * log a warning about an unknown target.
   */
  private async _greet(): Promise<void> {
    const reply = await this._kernel.requestCommInfo({ target_name: PUSH_TARGET });
    const known = reply.content.status === 'ok' && PUSH_ID in reply.content.comms;
    if (known && !this._isDisposed) {
      await this._command('refresh');
    }
  }

  private readonly _onPushOpen = (comm: Kernel.IComm): void => {
    this._hear(comm);
    void this._control();
  };

  private readonly _onStatus = (_: Kernel.IKernelConnection, status: Kernel.Status): void => {
    if (status === 'restarting' || status === 'autorestarting' || status === 'dead') {
      this._ctl = null;
      this.state.set({ group: null, notice: '', pending: false });
      this._listen();
    }
  };

  private _onPush(push: Push): void {
    if (push.type === 'group') {
      this.state.set({ group: push.group });
    } else if (push.group === null) {
      this.state.set({ view: push.view });
    } else {
      this.state.set({ view: push.view, group: push.group });
    }
    void this._control();
  }

  private async _control(): Promise<Kernel.IComm> {
    this._ctl ??= this._openControl();
    return this._ctl;
  }

  private async _openControl(): Promise<Kernel.IComm> {
    const comm = this._kernel.createComm(CONTROL_TARGET);
    comm.onMsg = message => {
      this._onAnswer(message.content.data as unknown as Answer);
    };
    comm.onClose = () => {
      this._ctl = null;
    };
    // Not part of the interface: until it settles, messages would go to the main thread.
    await (comm as Kernel.IComm & { subshellStarted?: Promise<void> }).subshellStarted;
    comm.open({});
    return comm;
  }

  /** Send a command; false if it stays unanswered. */
  private async _command(command: string, patience = PATIENCE_MS): Promise<boolean> {
    const number = ++this._number;
    const answered = new Promise<boolean>(resolve => {
      this._pending.set(number, resolve);
      window.setTimeout(() => {
        this._pending.delete(number);
        resolve(false);
      }, patience);
    });
    void this._control().then(comm => comm.send({ command, number, args: {} }));
    return answered;
  }

  private _onAnswer(answer: Answer): void {
    this._pending.get(answer.number)?.(true);
    this._pending.delete(answer.number);
    if (answer.type === 'failed') {
      this.state.set({ notice: answer.message ?? 'The kernel could not do that.' });
    }
  }

  private _clearNotice(mine: string): void {
    if (this.state.notice === mine) {
      this.state.set({ notice: '' });
    }
  }

  private readonly _kernel: Kernel.IKernelConnection;
  private readonly _pending = new Map<number, (answered: boolean) => void>();
  private _ctl: Promise<Kernel.IComm> | null = null;
  private _number = 0;
  private _isDisposed = false;
}

/** Do what fails if a kernel connection is already gone. */
function quietly(action: () => void): void {
  try {
    action();
  } catch (error) {
    console.debug('eai_notebook: kernel connection already gone', error);
  }
}
