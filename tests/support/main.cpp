// SPDX-License-Identifier: Apache-2.0
// The runner of every test program. Version 2 of Catch2 compiles its implementation where this
// macro is set; version 3 ignores it.
#define CATCH_CONFIG_RUNNER
#include "catch.hpp"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
