/**
 * The line between the panel and one kernel.
 *
 * Two comms, each sent on by one side only: the kernel pushes on the one with the fixed id,
 * the panel commands on the other. A comm that the kernel's main thread has sent on would
 * be handled there, that is, after the running cell; see `eai_notebook/display/panel_channel.py`.
 */
import type { Kernel } from '@jupyterlab/services';
import { CONTROL_TARGET, PUSH_ID, PUSH_TARGET } from './generated';
import { upCode, type Wish } from './startMagic';
import type {
  Advice,
  Answer,
  Comparison,
  Download,
  Push,
  Range,
  Report,
  Room,
  RunEntry,
  Section,
  View
} from './types';
import { runBeside } from './subshell';
import { arrivals, type Picture } from './live';
import { KernelState } from './state';

/** How long a command may stay unanswered before the panel goes another way. */
const PATIENCE_MS = 1500;
/** Reading a long record, or ending a group, may take this long. */
const LONG_MS = 60_000;
/** A cell that was stopped has ended after this time, if need be without an unresponsive rank. */
const CALM_MS = 15_000;

type Args = Readonly<Record<string, string | number | boolean>>;

let links = 0;

export class KernelLink {
  constructor(kernel: Kernel.IKernelConnection) {
    this._kernel = kernel;
    kernel.registerCommTarget(PUSH_TARGET, this._onPushOpen);
    kernel.statusChanged.connect(this._onStatus);
    this._listen();
    void this._greet();
    void kernel.info.then(() => {
      this.state.set({ besideCells: kernel.supportsSubshells });
    });
  }

  /** Identifies a link: a restarted kernel gets a new one. */
  readonly id = ++links;
  readonly state = new KernelState();

  /** Start a group by running the magic, as a person would: it also loads the extension. */
  async start(wish: Wish): Promise<void> {
    const ranks = `${wish.ranks} rank${wish.ranks === 1 ? '' : 's'}`;
    const notice = wish.hosts.trim() === '' ? `Starting ${ranks}` : 'Starting the ranks';
    await this._while(notice, () => runBeside(this._kernel, upCode(wish)));
  }

  /** Give up a start that goes on, or a restart; nothing of it is left running. */
  async cancel(): Promise<void> {
    const answer = await this._command('cancel', {}, PATIENCE_MS);
    if (answer === null) {
      await this._kernel.interrupt();
    }
  }

  /** Interrupt what the ranks are running. */
  async stop(): Promise<void> {
    const before = this.state.notice;
    this.state.set({ notice: 'Stopping…' });
    const answer = await this._command('interrupt', {}, PATIENCE_MS);
    if (answer === null) {
      // No answer: the comm may wait behind the cell. The server can always interrupt.
      await this._kernel.interrupt();
    }
    this._clearNotice('Stopping…', before);
  }

  /** End the group, and what it runs first. */
  async shutDown(): Promise<void> {
    await this._while('Shutting down…', async () => {
      await this._calm();
      return this._execute('down');
    });
  }

  /** End the group, and what it runs first; start it again and replay the set-up cells. */
  async restart(): Promise<void> {
    await this._while('Restarting…', async () => {
      await this._calm();
      return runBeside(this._kernel, '%eai restart');
    });
  }

  /** Have the next steps recorded in depth; returns which, in words. */
  async deepTrace(steps: number): Promise<string> {
    return (await this._ask('deep', { steps })) as string;
  }

  /** What every rank is doing now, in words; also while a cell runs. */
  async where(): Promise<string> {
    return (await this._ask('where', {})) as string;
  }

  /** Compare a variable of the ranks: the outcome, or while they train what was asked, in words. */
  async diff(name: string): Promise<string> {
    return (await this._ask('diff', { name })) as string;
  }

  /** The report on the latest run; also while it goes on. */
  async report(): Promise<Report> {
    return (await this._ask('report', {})) as Report;
  }

  /** What can be done about the losses of the latest run; also while it goes on. */
  async advise(): Promise<Advice> {
    return (await this._ask('advise', {})) as Advice;
  }

  /** Have a remedy tried in the training that goes on, or the next; returns which, in words. */
  async tryRemedy(run: string, number: number, words: string): Promise<string> {
    return (await this._ask('try', { run, number, words })) as string;
  }

  /** The file of the latest trace in depth. */
  async traced(): Promise<Download> {
    return (await this._ask('traced', {})) as Download;
  }

  /** What this machine has for ranks; loads the extension if the kernel has not. */
  async room(): Promise<Room> {
    await this._load();
    return (await this._ask('room', {})) as Room;
  }

  /** The earlier runs, from their records; loads the extension if the kernel has not. */
  async runs(): Promise<RunEntry[]> {
    await this._load();
    return (await this._ask('runs', {})) as RunEntry[];
  }

  async open(folder: string): Promise<View> {
    return (await this._ask('open', { folder })) as View;
  }

  /** Change a run on disk: rename, star, tag or delete it, or write a note to it. */
  async change(
    command: 'rename' | 'star' | 'note' | 'tag' | 'delete',
    args: Readonly<Record<string, string | boolean>>
  ): Promise<void> {
    await this._ask(command, args);
  }

  /** Some steps of a run in detail, by the run's id. */
  async section(run: string, range: Range): Promise<Section> {
    return (await this._ask('section', { run, ...range })) as Section;
  }

  /** A run's picture, by the run's id or its folder. */
  async picture(run: string): Promise<Picture> {
    return (await this._ask('picture', { run })) as Picture;
  }

  async compare(before: string, after: string): Promise<Comparison> {
    return (await this._ask('compare', { before, after })) as Comparison;
  }

  /** A run as a file: a `page` that opens anywhere, or a `trace` for Perfetto. */
  async file(kind: 'page' | 'trace', folder: string): Promise<Download> {
    return (await this._ask(kind, { folder })) as Download;
  }

  /** What a rank, or all of them, have printed lately: the latest lines, at most `most`. */
  async log(rank: number | 'all', most: number): Promise<string> {
    return (await this._ask('log', { rank, most })) as string;
  }

  dispose(): void {
    this._isDisposed = true;
    quietly(() => {
      this._kernel.removeCommTarget(PUSH_TARGET, this._onPushOpen);
      this._kernel.statusChanged.disconnect(this._onStatus);
    });
  }

  private async _load(): Promise<void> {
    if (!this._isKnown) {
      await runBeside(this._kernel, '%load_ext eai_notebook');
      this._isKnown = true;
    }
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
      this._isKnown = true;
      await this._command('refresh', {}, PATIENCE_MS);
    }
  }

  private readonly _onPushOpen = (comm: Kernel.IComm): void => {
    this._hear(comm);
    this._isKnown = true;
    void this._control();
  };

  private readonly _onStatus = (_: Kernel.IKernelConnection, status: Kernel.Status): void => {
    if (status === 'restarting' || status === 'autorestarting' || status === 'dead') {
      this._ctl = null;
      this._isKnown = false;
      this.state.set({ group: null, awaited: '', notice: '', pending: false });
      this._listen();
    }
  };

  private _onPush(push: Push): void {
    this._isKnown = true;
    if (push.type === 'group') {
      this.state.set({ group: push.group });
    } else if (push.type === 'awaited') {
      this.state.set({ awaited: push.name });
    } else if (push.group === null) {
      this.state.set({ view: push.view, awaited: '' });
    } else {
      this.state.set({ view: push.view, group: push.group, awaited: '' });
    }
    if (push.type === 'run') {
      const { view } = push;
      arrivals.add({
        view,
        picture: () => this.picture(view.run.id),
        section: (run, range) => this.section(run, range)
      });
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
    if (this._kernel.supportsSubshells) {
      // Not part of the interface: until it settles, messages would go to the main thread.
      // In a kernel without subshells it never does.
      await (comm as Kernel.IComm & { subshellStarted?: Promise<void> }).subshellStarted;
    }
    comm.open({});
    return comm;
  }

  /** Send a command and return its answer; null if it stays unanswered. */
  private async _command(command: string, args: Args, patience: number): Promise<Answer | null> {
    const number = ++this._number;
    const answered = new Promise<Answer | null>(resolve => {
      this._pending.set(number, resolve);
      window.setTimeout(() => {
        this._pending.delete(number);
        resolve(null);
      }, patience);
    });
    void this._control().then(comm => comm.send({ command, number, args }));
    return answered;
  }

  /** Ask for something; throws what the kernel said if it could not. */
  private async _ask(command: string, args: Args): Promise<unknown> {
    const answer = await this._command(command, args, LONG_MS);
    if (answer === null) {
      throw new Error('The kernel did not answer: it may be busy with a cell.');
    }
    if (answer.type === 'failed') {
      throw new Error(answer.message ?? 'The kernel could not do that.');
    }
    return answer.value;
  }

  /** Have the kernel do something; returns why it could not, or nothing. */
  private async _execute(command: string): Promise<string> {
    const answer = await this._command(command, {}, LONG_MS);
    if (answer === null) {
      return `The kernel did not answer. Try %eai ${command} in a cell.`;
    }
    return answer.type === 'failed' ? (answer.message ?? 'The kernel could not do that.') : '';
  }

  /** Say what is being done while it is done, then what went wrong, if anything. */
  private async _while(notice: string, action: () => Promise<string>): Promise<void> {
    this.state.set({ notice, pending: true });
    let failure = '';
    try {
      failure = await action();
    } catch {
      failure = 'The kernel went away meanwhile.';
    }
    this.state.set({ notice: failure, failed: failure !== '', pending: false });
  }

  /** Stop the running cell of the group, if there is one, and wait for its end. */
  private async _calm(): Promise<void> {
    if (!this._isBusy()) {
      return;
    }
    await this.stop();
    const deadline = Date.now() + CALM_MS;
    while (this._isBusy() && Date.now() < deadline) {
      await new Promise(resolve => window.setTimeout(resolve, 50));
    }
  }

  private _isBusy(): boolean {
    return this.state.group?.state === 'busy';
  }

  private _onAnswer(answer: Answer): void {
    this._pending.get(answer.number)?.(answer);
    this._pending.delete(answer.number);
  }

  private _clearNotice(mine: string, before: string): void {
    if (this.state.notice === mine) {
      this.state.set({ notice: before });
    }
  }

  private readonly _kernel: Kernel.IKernelConnection;
  private readonly _pending = new Map<number, (answer: Answer | null) => void>();
  private _ctl: Promise<Kernel.IComm> | null = null;
  private _number = 0;
  private _isKnown = false;
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
