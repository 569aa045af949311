# A relocatable prefix: binary, plugins, headers, runtime object, pkg-config file, CMake package.
