-- Runs on Lua 5.1 to 5.4 and Wireshark 4.0 and later. So: no operators on bits and no integer
-- division, which 5.1 and 5.2 lack, and nothing that only they have. Numbers may be doubles.

-- A second copy, as from the plugin folder and -X lua_script, has nothing to add.
local made, proto = pcall(Proto, "fbsd_netdump", "FreeBSD netdump")
if not made then
    return
end

