# tn_proto(TARGET FILE): C structs and descriptors of the messages in FILE, as <NAME.pb-c.h>.
find_program(PROTOC_C protoc-c REQUIRED)
function(tn_proto target file)
  get_filename_component(name ${file} NAME_WE)
  get_filename_component(dir ${PROJECT_SOURCE_DIR}/${file} DIRECTORY)
  set(out ${CMAKE_BINARY_DIR}/proto)
  file(MAKE_DIRECTORY ${out})
  add_custom_command(OUTPUT ${out}/${name}.pb-c.c ${out}/${name}.pb-c.h
    COMMAND ${PROTOC_C} --proto_path=${dir} --c_out=${out} ${name}.proto
    DEPENDS ${PROJECT_SOURCE_DIR}/${file} VERBATIM)
  target_sources(${target} PRIVATE ${out}/${name}.pb-c.c ${out}/${name}.pb-c.h)
  target_include_directories(${target} SYSTEM PUBLIC ${out})
endfunction()
