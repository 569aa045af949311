# tn_embed_pages(TARGET DIR): every *.model file of DIR becomes a row of tn_embedded_pages, so that the binary knows
# the shipped architectures without any file beside it.
function(tn_embed_pages target dir)
  file(GLOB pages CONFIGURE_DEPENDS ${dir}/*.model)
  set(out ${CMAKE_BINARY_DIR}/embedded_pages.c)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DOUT=${out} "-DFILES=${pages}" -P ${PROJECT_SOURCE_DIR}/cmake/embed_script.cmake
    DEPENDS ${pages} ${PROJECT_SOURCE_DIR}/cmake/embed_script.cmake VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()
