// Included before Horovod's timeline.cc.
//
// If a timeline can be enabled, its writer thread polls for work without a pause, which costs a
// core. Here it sleeps between polls.

#pragma once

#include <chrono>
#include <thread>

#define yield() sleep_for(std::chrono::milliseconds(10))
