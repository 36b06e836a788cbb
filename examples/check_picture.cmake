# SPDX-License-Identifier: Apache-2.0
# Runs PROGRAM, which draws PICTURE, and checks that it is an SVG of LINES lines, whole to its end.
file(REMOVE ${PICTURE})
execute_process(COMMAND ${PROGRAM} ${PICTURE} OUTPUT_QUIET RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${status}")
endif()
file(READ ${PICTURE} picture)
string(REGEX MATCHALL "\n" lines "${picture}")
list(LENGTH lines count)
if(NOT count EQUAL LINES OR NOT picture MATCHES "^<svg [^\n]*>\n.*\n</svg>\n$")
  message(FATAL_ERROR "${PICTURE} has ${count} lines, expected ${LINES} in one svg element")
endif()
