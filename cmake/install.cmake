# A relocatable prefix: the binary, the plugins with their manifests, the public headers, the runtime object, a
# pkg-config file and a CMake package for people who write plugins. RPATHs are relative.
set(TENON_PLUGIN_DIR ${CMAKE_INSTALL_LIBDIR}/tenon/plugins)
set_target_properties(tenon PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
install(TARGETS tenon RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY plugins/include/tenon DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
foreach(backend cpu cuda)
  if(TARGET tenon-${backend})
    set(manifest ${CMAKE_BINARY_DIR}/plugins/tenon-${backend}.tnplug)
    configure_file(${PROJECT_SOURCE_DIR}/backends/${backend}/tenon-${backend}.tnplug.in ${manifest} @ONLY)
    install(TARGETS tenon-${backend} LIBRARY DESTINATION ${TENON_PLUGIN_DIR})
    install(FILES ${manifest} DESTINATION ${TENON_PLUGIN_DIR})
  endif()
endforeach()
install(DIRECTORY frontend/models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/tenon/models FILES_MATCHING PATTERN "*.model")
configure_file(${PROJECT_SOURCE_DIR}/cmake/tenon.pc.in ${CMAKE_BINARY_DIR}/tenon.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/tenon.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

include(CMakePackageConfigHelpers)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/tenon-config.cmake.in ${CMAKE_BINARY_DIR}/tenon-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tenon)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/tenon-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_BINARY_DIR}/tenon-config.cmake ${CMAKE_BINARY_DIR}/tenon-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tenon)
