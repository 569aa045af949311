# What the link step puts into every artefact: base library, tokenizer engine and runtime as one relocatable object
# with few global names. Compiled apart from the tool's copy: always optimised, instrumented for the thread sanitizer
# alone, every function in a section of its own so that an artefact keeps only what it calls. pcre2 and utf8proc come
# from their static archives, member by member as needed; their names become local, so two artefacts never share them.
set(rooms tn_base tn_tokenizer tn_runtime tn_lib tn_cuda_run)
set(sources "")
foreach(room ${rooms})
  get_target_property(found ${room} SOURCES)
  list(APPEND sources ${found})
endforeach()
list(REMOVE_ITEM sources ${CMAKE_BINARY_DIR}/empty.c)

add_library(tn_artefact OBJECT ${sources})
target_include_directories(tn_artefact PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/plugins/include
  ${PCRE2_INCLUDE_DIRS} ${UTF8PROC_INCLUDE_DIRS})
target_compile_definitions(tn_artefact PRIVATE _GNU_SOURCE)
target_compile_options(tn_artefact PRIVATE -O2 -g0 -w -fno-strict-aliasing -ffunction-sections -fdata-sections
  -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=)
set_target_properties(tn_artefact PROPERTIES C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)

find_library(PCRE2_ARCHIVE libpcre2-8.a REQUIRED)
find_library(UTF8PROC_ARCHIVE libutf8proc.a REQUIRED)
find_program(TENON_LD NAMES ld ld.lld-22 ld.lld REQUIRED)
find_program(TENON_OBJCOPY NAMES objcopy llvm-objcopy-22 llvm-objcopy REQUIRED)

# The names that stay visible to the link step: those of TN_LINK_EXPORTS.
file(STRINGS tools/driver/link.h exports REGEX "X\\([a-z_]+, tn_[a-z_]+\\)")
string(REGEX MATCHALL "tn_[a-z_]+\\)" exports "${exports}")
list(TRANSFORM exports REPLACE "\\)" "")
# And the kernels that generated code calls: those of TN_LIB_KERNELS.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/backends/lib/lib.h)
file(READ backends/lib/lib.h kernels)
string(REGEX MATCH "define TN_LIB_KERNELS[^#]*" kernels "${kernels}")
string(REGEX MATCHALL "X\\([a-z_0-9]+\\)" kernels "${kernels}")
list(REMOVE_ITEM kernels "X(X)")
list(TRANSFORM kernels REPLACE "X\\(([a-z_0-9]+)\\)" "tn_lib_\\1")
list(APPEND exports ${kernels})
# And the run sides of backends whose code is data (TN_BACKEND_EMBED): tn_NAME_device_api. What no artefact's table
# names is left out of it.
list(APPEND exports tn_cuda_device_api)
list(TRANSFORM exports PREPEND "--keep-global-symbol=")

set(TENON_RUNTIME_OBJECT ${CMAKE_BINARY_DIR}/lib/tenon/tenon-runtime.o)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/lib/tenon)
# Under the thread sanitizer artefacts are watched too. Then what the link step takes for the runtime is a linker script
# that adds the sanitizer's library, so that the link step itself needs not know. (Clang has it in programs alone.)
set(runtime ${TENON_RUNTIME_OBJECT})
if(TENON_SANITIZE STREQUAL thread AND CMAKE_C_COMPILER_ID STREQUAL GNU)
  target_compile_options(tn_artefact PRIVATE -fsanitize=thread -fno-omit-frame-pointer)
  execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libtsan.so OUTPUT_VARIABLE tsan
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(runtime ${CMAKE_BINARY_DIR}/lib/tenon/instrumented.o)
  set(script COMMAND ${CMAKE_COMMAND} -E echo "INPUT(${runtime} AS_NEEDED(${tsan}))" > ${TENON_RUNTIME_OBJECT})
endif()
add_custom_command(OUTPUT ${TENON_RUNTIME_OBJECT}
  COMMAND ${TENON_LD} -r --strip-debug -o ${runtime}.all $<TARGET_OBJECTS:tn_artefact>
    --start-group ${PCRE2_ARCHIVE} ${UTF8PROC_ARCHIVE} --end-group
  COMMAND ${TENON_OBJCOPY} ${exports} ${runtime}.all ${runtime}
  COMMAND ${CMAKE_COMMAND} -E rm ${runtime}.all
  ${script}
  DEPENDS tn_artefact $<TARGET_OBJECTS:tn_artefact> COMMAND_EXPAND_LISTS VERBATIM)
add_custom_target(tenon-runtime ALL DEPENDS ${TENON_RUNTIME_OBJECT})
install(FILES ${TENON_RUNTIME_OBJECT} DESTINATION ${CMAKE_INSTALL_LIBDIR}/tenon)
