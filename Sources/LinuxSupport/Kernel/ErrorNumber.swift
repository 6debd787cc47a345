private import Glibc

/// Numbers that failed calls leave in `errno`.
public enum ErrorNumber {
    /// `strerror`, in lower case as our messages are.
    public static func text(_ code: Int32) -> String {
        guard let text = unsafe strerror(code) else { return "error \(code)" }
        return unsafe String(cString: text).lowercased()
    }
}
