// Random numbers of a device.
#pragma once

#include <ATen/core/Generator.h>

namespace fakegpu {

const at::Generator& default_generator(c10::DeviceIndex index);
at::Generator new_generator(c10::DeviceIndex index);
// The host's generator that draws for a device's.
at::Generator host_generator(const at::Generator& generator);

} // namespace fakegpu
