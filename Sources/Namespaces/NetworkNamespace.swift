private import CLinux
private import Glibc
private import TraceModel

/// A network namespace, held open: it stays the same one even when its name vanishes or is given to another.
public final class NetworkNamespace: Sendable {
    /// `host`, its name under `/run/netns`, `pid:N`, or a path.
    public let name: String
    /// Tells it from all other namespaces that there are now; a later one may get the number of one that is gone.
    public let inode: UInt64
    /// Never given twice until the next boot (`NS_GET_ID`, linux/nsfs.h, since Linux 6.18); `nil` on older kernels.
    public let identity: UInt64?
    private let descriptor: OwnedDescriptor

    /// Opens the namespace behind `path`, such as `/proc/self/ns/net`.
    init(name: String, path: String) throws(NamespaceError) {
        descriptor = try OwnedDescriptor(opening: path)
        self.name = name
        guard let inode = Self.inode(ofDescriptor: descriptor.number) else {
            throw .notANetworkNamespace(path: path)
        }
        self.inode = inode
        var identity: UInt64 = 0
        // _IOR(0xb7, 13, __u64)
        self.identity = unsafe ioctl(descriptor.number, 0x8008_B70D, &identity) == 0 ? identity : nil
    }

    /// Whether this is the namespace that had these numbers.
    public func isSame(inode: UInt64, identity: UInt64?) -> Bool {
        guard self.inode == inode else { return false }
        guard let identity, let own = self.identity else { return true }
        return own == identity
    }

    /// Its path for other programs, valid as long as this value and this process.
    public var path: String { "/proc/\(getpid())/fd/\(descriptor.number)" }

    /// Lends the open descriptor, for calls that name a namespace by one.
    public func withDescriptor<Result>(_ body: (Int32) throws -> Result) rethrows -> Result { try body(descriptor.number) }

    /// Runs `body` on this thread inside the namespace. Sockets opened there stay there.
    ///
    /// Ends the process if the way back fails: going on in a namespace that is not the expected one could do harm, and
    /// with the privilege that entering took there is no reason for it to fail.
    public func enter<Result: ~Copyable>(_ body: () throws -> Result) throws -> Result {
        let home = try OwnedDescriptor(opening: "/proc/thread-self/ns/net")
        guard ipt_setns(descriptor.number, Int32(IPT_CLONE_NEWNET)) == 0 else {
            throw NamespaceError.cannotEnter(name: name, code: errno)
        }
        defer {
            if ipt_setns(home.number, Int32(IPT_CLONE_NEWNET)) != 0 {
                unsafe perror("ipt-trace: cannot return from namespace \(name.printable)")
                exit(1)
            }
        }
        return try body()
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
