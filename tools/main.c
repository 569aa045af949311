/* main.c - the tenon command. */
#include "tools/tool.h"

int main(int argc, char **argv) { return tn_tool_main(argc, argv); }
