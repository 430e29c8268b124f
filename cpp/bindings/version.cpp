#include "version.hpp"

const char* const core_version = ATTSVM_VERSION;
const char* const core_interface = ATTSVM_INTERFACE;
