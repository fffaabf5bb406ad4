"""Children that a cell forks: each ends when it is terminated, and so do pools."""

import multiprocessing
import time

fork = multiprocessing.get_context("fork")


def square(number: int) -> int:
    """Return the square of `number`."""
    return number * number


child = fork.Process(target=time.sleep, args=(600,))
child.start()
child.terminate()  # at once: the child may not have its handlers yet
child.join(60)
print(child.exitcode)
child.kill()

for _ in range(10):
    with fork.Pool(2) as pool:
        pool.map(square, range(4))
print("10 pools left")
