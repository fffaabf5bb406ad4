"""Messages that ranks send to the kernel; both processes import this room, it imports nothing of theirs."""
