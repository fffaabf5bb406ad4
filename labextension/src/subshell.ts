/** Run code in a kernel beside the cell that it is running. */
import type { Kernel } from '@jupyterlab/services';

/** What is said of code that the user has stopped. */
const STOPPED = 'Cancelled: nothing of it is left running.';

/**
 * Run `code` silently; returns what it failed with, or nothing.
 *
 * A kernel with subshells (ipykernel 7) runs it at once, in a thread of its own; an older
 * one when the running cell has ended.
 */
export async function runBeside(kernel: Kernel.IKernelConnection, code: string): Promise<string> {
  if (!kernel.supportsSubshells) {
    return execute(kernel, code);
  }
  // Asked of the connection there is: a new one would first wait for the running cell.
  const reply = await kernel.requestCreateSubshell({}).done;
  const subshell = kernel.clone({ handleComms: false });
  subshell.subshellId = reply.content.subshell_id;
  try {
    return await execute(subshell, code);
  } finally {
    await kernel.requestDeleteSubshell({ subshell_id: reply.content.subshell_id }).done;
    subshell.dispose();
  }
}

async function execute(kernel: Kernel.IKernelConnection, code: string): Promise<string> {
  const { content } = await kernel.requestExecute({ code, store_history: false }).done;
  if (content.status !== 'error') {
    return '';
  }
  return content.ename === 'KeyboardInterrupt' ? STOPPED : content.evalue || content.ename;
}
