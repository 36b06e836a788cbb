# SPDX-License-Identifier: Apache-2.0
# Installs headers, a relocatable CMake package and a pkg-config file. Nothing of it depends on the
# architecture, so all of it goes under the data directory.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATAROOTDIR}/cmake/maslin)
set(pkgconfig_dir ${CMAKE_INSTALL_DATAROOTDIR}/pkgconfig)
maslin_dependency(xsimd)
set(MASLIN_XSIMD_VERSION ${maslin_dep_least})

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/maslin DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS maslin EXPORT maslinTargets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT maslinTargets NAMESPACE maslin:: DESTINATION ${package_dir})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/Config.cmake.in
                              ${PROJECT_BINARY_DIR}/maslinConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/maslinConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/maslinConfig.cmake ${PROJECT_BINARY_DIR}/maslinConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/FixXsimd.cmake
        DESTINATION ${package_dir})

# pkg-config resolves ${pcfiledir} to the file's own folder, so the prefix may move.
if(IS_ABSOLUTE ${pkgconfig_dir})
  set(MASLIN_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH up /prefix/${pkgconfig_dir} /prefix)
  set(MASLIN_PC_PREFIX "\${pcfiledir}/${up}")
endif()
if(IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  set(MASLIN_PC_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
else()
  set(MASLIN_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/maslin.pc.in ${PROJECT_BINARY_DIR}/maslin.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/maslin.pc DESTINATION ${pkgconfig_dir})
