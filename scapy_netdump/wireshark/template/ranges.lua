-- Sets of numbers ---------------------------------------------------------------------------

-- Sorted ranges [start, end) that never touch, in two arrays. What comes in order only moves
-- the end of the last range. A hostile capture may make islands without end, hence the bound.
local MAX_RANGES = 32768

local function new_ranges()
    return { starts = {}, ends = {}, count = 0, total = 0, full = false }
end

-- How many ranges end at or before a position.
local function ranges_before(set, position)
    local ends, low, high = set.ends, 0, set.count
    if high == 0 or ends[high] <= position then
        return high
    end
    while low < high do
        local middle = math.floor((low + high) / 2)
        if ends[middle + 1] <= position then
            low = middle + 1
        else
            high = middle
        end
    end
    return low
end

-- How much of [first, last) is in the set.
local function held(set, first, last)
    local starts, ends = set.starts, set.ends
    local index, sum = ranges_before(set, first) + 1, 0
    while index <= set.count and starts[index] < last do
        sum = sum + math.min(last, ends[index]) - math.max(first, starts[index])
        index = index + 1
    end
    return sum
end

local function extend_last(set, last)
    local ends, count = set.ends, set.count
    if last > ends[count] then
        set.total = set.total + last - ends[count]
        ends[count] = last
    end
end

local function add_range(set, first, last)
    local starts, ends, count = set.starts, set.ends, set.count
    if count > 0 and starts[count] <= first and first <= ends[count] then
        extend_last(set, last)
        return
    end
    local index = ranges_before(set, first - 1) + 1
    local stop = index -- the first range beyond those that touch
    while stop <= count and starts[stop] <= last do
        first, last = math.min(first, starts[stop]), math.max(last, ends[stop])
        set.total = set.total - (ends[stop] - starts[stop])
        stop = stop + 1
    end
    if stop == index then
        if count >= MAX_RANGES then
            set.full = true
            return
        end
        table.insert(starts, index, first)
        table.insert(ends, index, last)
    else
        starts[index], ends[index] = first, last
        for _ = index + 1, stop - 1 do
            table.remove(starts, index + 1)
            table.remove(ends, index + 1)
        end
    end
    set.count = count + 1 - (stop - index)
    set.total = set.total + last - first
end

-- What of [0, length) is not in the set: number of ranges, sum, and the ranges as text.
local MAX_LISTED = 200

local function missing_ranges(set, length)
    local list, count, sum, position = {}, 0, 0, 0
    local function lacks(first, last)
        if first < last then
            count, sum = count + 1, sum + last - first
            if count <= MAX_LISTED then
                list[count] = string.format("%.0f-%.0f", first, last)
            end
        end
    end
    for index = 1, set.count do
        lacks(math.min(position, length), math.min(set.starts[index], length))
        position = set.ends[index]
    end
    lacks(math.min(position, length), length)
    return count, sum, list
end

-- What was added lately, by a number: two generations, of which the older one is dropped.
local GENERATION = 4096

local function new_recent()
    return { young = {}, old = {}, count = 0 }
end

local function remember(recent, number, value)
    if recent.count >= GENERATION then
        recent.young, recent.old, recent.count = {}, recent.young, 0
    end
    recent.young[number] = value
    recent.count = recent.count + 1
end

local function recall(recent, number)
    return recent.young[number] or recent.old[number]
end

