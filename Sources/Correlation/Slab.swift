private import CLinux
private import Glibc

/// Values by number, in memory of their own: an array without counting, uniqueness checks and copies.
///
/// Memory comes from the kernel in whole pages (mmap(2)), grows without being copied (mremap(2)), and counts as used only where
/// it has been written to. Large ones ask for large pages (`MADV_HUGEPAGE`), since a million journeys are looked up in no order.
@safe struct Slab<Element: BitwiseCopyable, Index: SlabIndex>: ~Copyable {
    private var base: UnsafeMutablePointer<Element>
    private var capacity: Int
    private(set) var count = 0

    private static var pageSize: Int { 4096 }
    /// From this many bytes on large pages are asked for: a smaller one would take more memory for little.
    private static var large: Int { 8 << 20 }

    init() { self.init(capacity: 1) }

    /// - Parameter count: how many there are from the beginning, all of them `value`.
    init(repeating value: Element, count: Int) {
        self.init(capacity: max(1, count))
        unsafe base.initialize(repeating: value, count: count)
        self.count = count
    }

    private init(capacity wanted: Int) {
        let size = Self.bytes(wanted)
        unsafe base = Self.checked(
            mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), size)
        capacity = size / MemoryLayout<Element>.stride
    }

    deinit {
        unsafe munmap(base, Self.bytes(capacity))
    }

    /// The element with a number below `count`; any other is a mistake of the caller's, and traps.
    @inline(__always)
    subscript(index: Index) -> Element {
        _read {
            precondition(UInt32(bitPattern: index.number) < UInt32(truncatingIfNeeded: count), "there is no such element")
            yield unsafe base[Int(index.number)]
        }
        _modify {
            precondition(UInt32(bitPattern: index.number) < UInt32(truncatingIfNeeded: count), "there is no such element")
            yield unsafe &base[Int(index.number)]
        }
    }

    /// The indices of all elements, as many as there are now.
    var indices: some Sequence<Index> { (0..<Int32(count)).lazy.map { Index(number: $0) } }

    /// Adds an element behind the others.
    ///
    /// - Returns: its index.
    @inline(__always) @discardableResult
    mutating func append(_ element: Element) -> Index {
        if count == capacity { grow() }
        unsafe (base + count).initialize(to: element)
        count += 1
        return Index(number: Int32(count - 1))
    }

    /// Tells the processor that an element will be looked at soon.
    @inline(__always)
    func prefetch(_ index: Index) {
        guard UInt32(bitPattern: index.number) < UInt32(truncatingIfNeeded: count) else { return }
        unsafe ipt_prefetch(base + Int(index.number))
        // The processor fetches 64 bytes at a time.
        if MemoryLayout<Element>.stride > 64 { unsafe ipt_prefetch(UnsafeRawPointer(base + Int(index.number)) + 64) }
    }

    private static func bytes(_ capacity: Int) -> Int {
        (capacity * MemoryLayout<Element>.stride + pageSize - 1) / pageSize * pageSize
    }

    @inline(never)
    private mutating func grow() {
        let size = Self.bytes(capacity * 2)
        unsafe base = Self.checked(ipt_remap(base, UInt(Self.bytes(capacity)), UInt(size)), size)
        capacity = size / MemoryLayout<Element>.stride
    }

    private static func checked(_ memory: UnsafeMutableRawPointer?, _ size: Int) -> UnsafeMutablePointer<Element> {
        // As for an array that finds no memory, there is no way to go on.
        guard let memory = unsafe memory, unsafe memory != MAP_FAILED else {
            preconditionFailure("out of memory: \(size) bytes")
        }
        if size >= large { unsafe madvise(memory, size, MADV_HUGEPAGE) }
        return unsafe memory.assumingMemoryBound(to: Element.self)
    }
}
