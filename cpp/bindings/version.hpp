// What the Python sources expect of the core: their own version, and the fingerprint of its interface.
#pragma once

extern const char* const core_version;
extern const char* const core_interface;
