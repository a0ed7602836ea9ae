-- nbdev writes the kind of a parameter where its type should stand, and loses the stars.
function CodeBlock(block)
  block.text = block.text:gsub("(%w+):VAR_POSITIONAL", "*%1"):gsub("(%w+):VAR_KEYWORD", "**%1")
  return block
end
