# rp_embed_text(FILE SOURCE SYMBOL): makes SOURCE, which defines `const char SYMBOL[]` with the text of FILE.
function(rp_embed_text file source symbol)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} text)
  string(REPLACE "\\" "\\\\" text "${text}")
  string(REPLACE "\"" "\\\"" text "${text}")
  string(REPLACE "\n" "\\n\"\n\"" text "${text}")
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT
       "/* The text of a file, for the program to hold. */\nextern const char @symbol@[];\nconst char @symbol@[] = \"@text@\";\n")
endfunction()
