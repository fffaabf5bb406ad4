// Included before Horovod's timeline.cc.
//
// Where a timeline may be switched on, the thread that would write it looks for work without a
// pause, which costs a core. Here it sleeps between looks.

#pragma once

#include <chrono>
#include <thread>

#define yield() sleep_for(std::chrono::milliseconds(10))
