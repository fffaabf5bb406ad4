from __future__ import annotations

import gc
import threading

import numpy as np

from eai_notebook.io.memory.buffer_pool import MAX_IDLE, MIN_POOLED, BufferPool


def test_memory_comes_back_when_the_last_view_of_it_is_gone() -> None:
    pool = BufferPool()
    borrowed = pool.acquire(MIN_POOLED)
    borrowed[:] = 7
    view = borrowed[100:200].view(np.int32).reshape(5, 5)
    place = borrowed.ctypes.data
    del borrowed
    other = pool.acquire(MIN_POOLED)  # while the view is held, others get other memory
    other[:] = 1
    assert other.ctypes.data != place
    assert (view.view(np.uint8) == 7).all()
    del view
    assert pool.acquire(MIN_POOLED).ctypes.data == place


def test_no_more_is_kept_than_allowed() -> None:
    pool = BufferPool()
    held = [pool.acquire(MAX_IDLE // 4) for _ in range(6)]
    places = {one.ctypes.data for one in held}
    held.clear()
    again = [pool.acquire(MAX_IDLE // 4) for _ in range(4)]
    assert {one.ctypes.data for one in again} <= places
    assert sum(len(some) for some in pool._free.values()) == 0


def test_as_much_is_kept_as_is_acquired_and_freed_when_nothing_is() -> None:
    pool = BufferPool()
    room = MAX_IDLE // 2
    held = [pool.acquire(room) for _ in range(8)]
    for place in range(8):
        held[place][0] = 7  # the system's own memory comes as zeros
    del held[4:]
    again = [pool.acquire(room) for _ in range(4)]
    assert [int(one[0]) for one in again] == [7] * 4
    again.clear()
    held.clear()
    assert {size: len(some) for size, some in pool._free.items() if some} == {room: 2}


def test_many_threads_never_share_memory() -> None:
    pool = BufferPool()
    wrong = []

    def use(number: int) -> None:
        for _ in range(300):
            borrowed = pool.acquire(MIN_POOLED + number % 2)
            borrowed[:] = number
            gc.collect(0)
            if not (borrowed == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
