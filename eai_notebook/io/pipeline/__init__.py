"""From a source's parts to a rank's batches: agree on steps, shuffle, read ahead, batch.

Data flows in one direction: `step_agreement` sets the number of steps, `shuffle_order` the order of
rows; `prefetch` fetches and parses ahead, in threads or in processes (`worker_pool`,
`worker_process`); `epoch` shuffles rows and cuts batches; `dataset` passes them to TensorFlow.
`wait_meter` measures what was waited for, `reader_autotune` sets the sizes of the queues.
"""
