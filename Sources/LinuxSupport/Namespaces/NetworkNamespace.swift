private import CLinux
private import Glibc
private import TraceModel

/// A network namespace. It is held open, and so stays the same one even when its name vanishes or is given to another; where
/// there are too few descriptors to hold all, it is opened by its path each time, and refused once that is another one.
public final class NetworkNamespace: Sendable {
    /// `host`, its name under `/run/netns`, `pid:N`, or a path.
    public let name: String
    /// Tells it from all other namespaces that there are now; a later one may get the number of one that is gone.
    public let inode: UInt64
    /// Never given twice until the next boot (`NS_GET_ID`, linux/nsfs.h, since Linux 6.18); `nil` on older kernels.
    public let identity: UInt64?
    private let path: String
    /// `nil` where it is opened by its path each time.
    private let descriptor: OwnedDescriptor?

    /// Opens the namespace behind `path`, such as `/proc/self/ns/net`.
    ///
    /// - Parameter isHeld: whether it stays open.
    init(name: String, path: String, isHeld: Bool = true) throws(NamespaceError) {
        let descriptor = try OwnedDescriptor(opening: path)
        self.name = name
        self.path = path
        guard let inode = Self.inode(ofDescriptor: descriptor.number) else {
            throw .notANetworkNamespace(path: path)
        }
        self.inode = inode
        identity = Self.identity(ofDescriptor: descriptor.number)
        self.descriptor = isHeld ? descriptor : nil
    }

    /// Makes a new one that has nothing but a loopback interface, which is down. Without a path of its own it goes with the last reference.
    public static func made(name: String) throws -> NetworkNamespace {
        let home = try OwnedDescriptor(opening: "/proc/thread-self/ns/net")
        guard ipt_unshare(Int32(IPT_CLONE_NEWNET)) == 0 else { throw NamespaceError.cannotEnter(name: name, code: errno) }
        defer { Self.goBack(to: home, from: name) }
        return try NetworkNamespace(name: name, path: "/proc/thread-self/ns/net")
    }

    private static func goBack(to home: OwnedDescriptor, from name: String) {
        guard withExtendedLifetime(home, { ipt_setns(home.number, Int32(IPT_CLONE_NEWNET)) }) != 0 else { return }
        unsafe perror("ipt-trace: cannot return from namespace \(name.printable)")
        // Not exit(3), whose handlers would run on a thread in the wrong namespace and wait for the others.
        _exit(1)
    }

    /// The open descriptor, or a new one for as long as the caller keeps it.
    package func opened() throws(NamespaceError) -> OwnedDescriptor {
        if let descriptor { return descriptor }
        let descriptor = try OwnedDescriptor(opening: path)
        guard let inode = Self.inode(ofDescriptor: descriptor.number),
            isSame(inode: inode, identity: Self.identity(ofDescriptor: descriptor.number))
        else { throw .replaced(name: name, path: path) }
        return descriptor
    }

    /// Whether this is the namespace that had these numbers.
    public func isSame(inode: UInt64, identity: UInt64?) -> Bool {
        guard self.inode == inode else { return false }
        guard let identity, let own = self.identity else { return true }
        return own == identity
    }

    /// Lends an open descriptor, for calls that name a namespace by one.
    public func withDescriptor<Result>(_ body: (Int32) throws -> Result) throws -> Result {
        let descriptor = try opened()
        return try withExtendedLifetime(descriptor) { try body(descriptor.number) }
    }

    /// Runs `body` on this thread inside the namespace. Sockets opened there stay there.
    ///
    /// Ends the process if the way back fails: going on in a namespace that is not the expected one could do harm, and
    /// with the privilege that entering took there is no reason for it to fail.
    public func enter<Result: ~Copyable>(_ body: () throws -> Result) throws -> Result {
        // The way back is open before the way in is taken.
        let home = try OwnedDescriptor(opening: "/proc/thread-self/ns/net")
        let descriptor = try opened()
        let entered = withExtendedLifetime(descriptor) { ipt_setns(descriptor.number, Int32(IPT_CLONE_NEWNET)) }
        guard entered == 0 else { throw NamespaceError.cannotEnter(name: name, code: errno) }
        defer { Self.goBack(to: home, from: name) }
        return try body()
    }

    private static func identity(ofDescriptor descriptor: Int32) -> UInt64? {
        var identity: UInt64 = 0
        // _IOR(0xb7, 13, __u64)
        return unsafe ioctl(descriptor, 0x8008_B70D, &identity) == 0 ? identity : nil
    }

    /// `nil` unless the descriptor is a network namespace: on nsfs, and setns(2)-able as such.
    private static func inode(ofDescriptor descriptor: Int32) -> UInt64? {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { return nil }
        // NS_GET_NSTYPE of linux/nsfs.h: _IO(0xb7, 0x3)
        guard ioctl(descriptor, 0xB703) == Int32(IPT_CLONE_NEWNET) else { return nil }
        return UInt64(status.st_ino)
    }
}
