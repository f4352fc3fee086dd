// Autograd's threads for the devices, where its engine has started without them.
#include <torch/csrc/autograd/engine.h>

namespace {

// The engine counts the devices once, at the first backward pass of the process, and a pass on the host may
// have come before the devices; it has no public call to count again.
struct Engine : torch::autograd::Engine {
  static void count_again(torch::autograd::Engine& engine) {
    const bool counted = (engine.*(&Engine::thread_pool_shared_)) != nullptr;
    if (counted && (engine.*(&Engine::device_ready_queues_)).empty())
      (engine.*(&Engine::start_device_threads))();
  }
};

} // namespace

extern "C" void fakegpu_join_autograd() {
  Engine::count_again(torch::autograd::Engine::get_default_engine());
}
