private import Glibc

/// The kernel's calls for files, on Swift's values. Each leaves `errno` as the call does.
public enum FileCalls {
    /// Opens a file that is closed on exec: its descriptor, or negative.
    ///
    /// - Parameter mode: of a file that is made.
    public static func open(_ path: String, _ flags: Int32, mode: UInt32 = 0) -> Int32 {
        unsafe Glibc.open(path, flags | O_CLOEXEC, mode)
    }

    /// How many bytes were read; 0 at the end, or negative.
    public static func read(_ descriptor: Int32, into buffer: inout [UInt8]) -> Int {
        unsafe buffer.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
    }

    /// How many bytes were written, or negative.
    public static func write(_ descriptor: Int32, _ bytes: [UInt8]) -> Int {
        unsafe bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
    }

    /// Takes a name out of its directory; whether that was done.
    @discardableResult
    public static func remove(_ path: String) -> Bool { unsafe unlink(path) == 0 }

    /// Makes a directory; whether that was done.
    public static func makeDirectory(_ path: String, mode: UInt32) -> Bool { unsafe mkdir(path, mode) == 0 }

    /// Takes an empty directory away; whether that was done.
    public static func removeDirectory(_ path: String) -> Bool { unsafe rmdir(path) == 0 }

    /// Gives a file another name in one step, replacing a file of that name; whether that was done.
    public static func rename(_ path: String, to name: String) -> Bool { unsafe Glibc.rename(path, name) == 0 }

    /// Whether a file's rights are as given.
    @discardableResult
    public static func setMode(_ path: String, _ mode: UInt32) -> Bool { unsafe chmod(path, mode) == 0 }
}
